"""Write what verify found: a table of every measure beside its bound and its noise floor, and a picture of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunemill.exporting.proof import Check, number

DIVERGENCE = "mean divergence (nats per token)"
SMALLEST = 1e-6
"""What is drawn in place of 0 on the logarithmic axis."""


def write(folder: Path, checks: Sequence[Check], links: Mapping[str, tuple[float, float]], asked: str) -> None:
    """Write verify.md and divergence.png.

    Args:
        links: name of each step from the adapter on → (mean divergence in nats per token, top-1 agreement).
        asked: how much was asked, in words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draw(links, [check for check in checks if check.measure == DIVERGENCE], folder / "divergence.png")
    (folder / "verify.md").write_text(text(checks, links, asked), encoding="utf-8")


def text(checks: Sequence[Check], links: Mapping[str, tuple[float, float]], asked: str) -> str:
    """Give the report, the result first."""
    failed = [check for check in checks if not check.passed]
    result = (
        f"{len(failed)} of {len(checks)} checks failed: nothing ships" if failed else "every file equals the adapter"
    )
    lines = [f"# {result}", "", f"{asked} The reference is the adapter as it was trained, on its own base.", ""]
    for check in failed:
        lines += [f"- **{check.sentence}**", *(f"    - {worst}" for worst in check.worst)]
    lines += ["", "| file | measure | value | bound | noise floor | |", "|---|---|---|---|---|---|"]
    for check in checks:
        floor = "exact" if check.floor is None else number(check.floor)
        held = "held" if check.passed else "**over**"
        bound = f"{check.side} {number(check.bound)}"
        lines.append(f"| {check.file} | {check.measure} | {number(check.value)} | {bound} | {floor} | {held} |")
    lines += [
        "",
        "The noise floor is the same measure between two ways of running the same weights; within it nothing is told.",
        "",
        "## Every link",
        "",
        "| from the adapter to | mean divergence (nats per token) | top-1 agreement |",
        "|---|---|---|",
        *(f"| {name} | {divergence:.6f} | {top1:.4f} |" for name, (divergence, top1) in links.items()),
        "",
        "![divergence](divergence.png)",
        "",
    ]
    return "\n".join(lines)


def draw(links: Mapping[str, tuple[float, float]], bounded: Sequence[Check], path: Path) -> None:
    """Draw the mean divergence of every link as a bar, on a logarithmic axis, with the bound of those that ship."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.6 * len(links) + 1.4), layout="constrained")
    axis: Any = figure.add_subplot()
    names = list(links)
    values = [max(links[name][0], SMALLEST) for name in names]
    axis.barh(range(len(names)), values, color="#4c78a8", height=0.55)
    axis.set_xscale("log")
    for place, value in enumerate(values):
        axis.annotate(f"{value:.2g}", (value, place), (4, 0), textcoords="offset points", va="center")
    bounds = {check.file: check.bound for check in bounded}
    spots = [(bound, names.index(file)) for file, bound in bounds.items() if file in names]
    if spots:
        axis.scatter(*zip(*spots, strict=True), marker="|", s=500, color="#e45756", label="bound", zorder=3)
        axis.legend(loc="upper right", frameon=False, markerscale=0.5)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlim(min(values) / 2, max([*values, *bounds.values()]) * 4)
    axis.set_xlabel("mean divergence from the adapter as trained (nats per token)")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
