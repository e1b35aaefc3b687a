"""Draw the data page's pictures: where rows went, why some were left out, and how labels are shared out.

Blue against orange and light against dark, which a colour-blind eye tells apart; every bar has its number beside it.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunemill.quality.balance import Label, Labels, least_share, percent
from tunemill.quality.funnel import SIDES, Funnel
from tunemill.quality.page_settings import BalanceSettings

KEPT, LOST, LIMIT, INK, GREY = "#2f6db3", "#e0a03c", "#b3261e", "#333333", "#9aa5b1"
SHADES = dict(zip(SIDES, (KEPT, "#8fb8e3", "#173a63"), strict=True))
REASONS = 8
"""Reasons that have a bar of their own."""
FIRST, LAST = 10, 5
"""Labels that have a bar: the most frequent and the rarest; no more are drawn where there are no more than both."""
_WIDTH, _BAR = 8.0, 0.62
"""Inches of every picture, and the part of a line that its bar fills."""


def draw_funnel(path: Path, funnel: Funnel) -> None:
    """Draw a bar for each stage: what went on, what it left out, and at the end the three sides."""
    # What the split leaves is what is dealt; its own bar stands only where it leaves something out.
    steps = [step for step in funnel.steps if step.stage != "split" or step.came > step.left]
    bars = [(f"after {step.stage}", step.left, step.came - step.left) for step in steps]
    figure, axis = _canvas(len(bars) + 2, legend=True)
    whole = max(funnel.read, 1)
    _bar(axis, 0, [(funnel.read, GREY)], whole, f"{funnel.read:,} records")
    for place, (_, left, lost) in enumerate(bars, 1):
        text = f"{left:,}" + (f"   −{lost:,} ({lost / whole:.1%})" if lost else "")
        _bar(axis, place, [(left, GREY), (lost, LOST)], whole, text)
    sides = [(funnel.sides[side], SHADES[side]) for side in SIDES]
    _bar(axis, len(bars) + 1, sides, whole, " · ".join(f"{funnel.sides[side]:,} {side}" for side in SIDES))
    axis.set_yticks(range(len(bars) + 2), ["read", *(name for name, _, _ in bars), "dealt"])
    axis.set_xlim(0, whole * 1.55)
    _legend(figure, [(GREY, "went on"), (LOST, "left out"), *((SHADES[side], side) for side in SIDES)])
    _save(figure, path)


def draw_losses(path: Path, funnel: Funnel) -> None:
    """Draw a bar for each of the eight most frequent reasons, its name above it, and one for all others."""
    ranked = sorted(funnel.losses, key=lambda loss: -loss.rows)
    shown, others = ranked[:REASONS], ranked[REASONS:]
    bars = [(f"{loss.stage}: {loss.reason}", loss.rows, LOST) for loss in shown]
    if others:
        bars.append((f"{len(others):,} more reasons together", sum(loss.rows for loss in others), GREY))
    figure, axis = _canvas(len(bars), line=0.44)
    axis.spines["left"].set_visible(False)
    whole = max(rows for _, rows, _ in bars)
    for place, (name, rows, colour) in enumerate(bars):
        _bar(axis, place, [(rows, colour)], whole, f"{rows:,}", height=0.36)
        _text(axis, 0, place - 0.22, _cut(name, 95), va="bottom", fontsize=9, bbox=None)
    axis.set_ylim(len(bars) - 0.7, -0.75)
    axis.set_yticks([])
    axis.set_xlim(0, whole * 1.15)
    _save(figure, path)


def draw_balance(path: Path, labels: Labels, settings: BalanceSettings) -> None:
    """Draw the shares of the most frequent and the rarest labels, numbered as in the page's table, with the limits."""
    bars = shown_labels(labels)
    gap = len(labels.labels) - len(bars)
    figure, axis = _canvas(len(bars) + bool(gap), legend=True)
    rows, places = max(labels.rows, 1), []
    most = bars[0][1].rows / rows
    for place, (rank, label) in enumerate(bars):
        at = place + bool(gap and place >= FIRST)
        places.append((at, f"{_cut(label.value, 36)}  {rank:,}"))
        parts = [(label.sides.get(side, 0) / rows, SHADES[side]) for side in SIDES]
        _bar(axis, at, parts, most, f"{label.rows:,} ({label.rows / rows:.1%})")
    if gap:
        _text(axis, 0, FIRST, f"  … {gap:,} more in between …", va="center", fontsize=9, color=GREY)
    _limits(axis, [(settings.warn_above, "at most"), (least_share(labels, settings), "at least")], most)
    axis.set_yticks([at for at, _ in places], [""] * len(places))
    for at, name in places:
        _text(axis, -0.01 * most, at, name, ha="right", va="center", fontsize=9)
    axis.set_xlim(0, most * 1.3)
    _legend(figure, [(SHADES[side], side) for side in SIDES])
    _save(figure, path)


def shown_labels(labels: Labels) -> list[tuple[int, Label]]:
    """Give the labels that are shown with their rank from 1: the most frequent and the rarest, or all."""
    ranked = list(enumerate(labels.labels, 1))
    return ranked if len(ranked) <= FIRST + LAST else ranked[:FIRST] + ranked[-LAST:]


def _canvas(lines: int, line: float = 0.36, legend: bool = False) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, line * lines + 0.2 + 0.35 * legend), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    axis.set_ylim(lines - 0.5, -0.5)
    axis.tick_params(length=0, colors=INK, labelsize=9)
    axis.set_xticks([])
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
    axis.spines["left"].set_color(GREY)
    return figure, axis


def _bar(
    axis: Any, place: int, parts: Sequence[tuple[float, str]], whole: float, text: str, height: float = _BAR
) -> None:
    """Draw the parts of one bar after each other, and the text behind them."""
    end = 0.0
    for length, colour in parts:
        axis.barh(place, length, height, left=end, color=colour, edgecolor="white", linewidth=0.6)
        end += length
    _text(axis, end + 0.008 * whole, place, text, va="center", fontsize=9)


def _limits(axis: Any, limits: Sequence[tuple[float, str]], most: float) -> None:
    """Draw limits that lie on the picture, each named at the foot of its line."""
    for value, name in limits:
        if value <= most * 1.25:
            axis.axvline(value, color=LIMIT, linewidth=1.2, linestyle="--", zorder=3)
            axis.annotate(
                f"{name} {percent(value)}",
                (value, 0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -3),
                textcoords="offset points",
                ha="center",
                va="top",
                color=LIMIT,
                fontsize=8,
            )


def _text(axis: Any, x: float, y: float, text: str, **style: Any) -> None:
    """Write text as it is, before any line that crosses it: a dollar sign begins no formula."""
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    axis.text(x, y, text, **{"color": INK, "parse_math": False, "zorder": 4, "bbox": ground, **style})


def _legend(figure: Any, entries: Sequence[tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=name) for colour, name in entries]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False, fontsize=9)


def _cut(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def _save(figure: Any, path: Path) -> None:
    with warnings.catch_warnings():
        # A label in a script that the font lacks shows as boxes; its number leads to the page's table.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(path, metadata={"Software": None})
