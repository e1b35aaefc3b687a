"""Draw one histogram of lengths with the limits that were set on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.integer[Any]]
_KEPT, _REJECTED, _LIMIT, _INK = "#2f6db3", "#e0a03c", "#b3261e", "#333333"
_BINS = 40


class Limit(NamedTuple):
    """A line to draw; it stands between the last length that is allowed and the first that is not."""

    name: str
    value: int
    is_maximum: bool

    @property
    def line(self) -> int:
        """Where the line stands: lengths are whole, so one beyond a maximum."""
        return self.value + self.is_maximum


def draw(
    path: Path,
    unit: str,
    kept: Sequence[int] | Numbers,
    rejected: Sequence[int] | Numbers,
    limits: Sequence[Limit],
    names: tuple[str, str] = ("kept", "rejected"),
) -> None:
    """Write a PNG of both groups, stacked; the axis is logarithmic where the longest is more than 20 times a
    short one (the 5th percentile).

    A limit far beyond every length is named above the plot and not drawn, so that the lengths stay legible.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    kept, rejected = np.asarray(kept, np.int64), np.asarray(rejected, np.int64)
    lengths = np.concatenate([kept, rejected]) if len(kept) or len(rejected) else np.zeros(1, np.int64)
    highest = int(lengths.max())
    drawn = [limit for limit in limits if limit.value <= 4 * max(highest, 1)]
    edges, logarithmic = _edges(lengths, [limit.line for limit in drawn])
    groups = [
        (kept, _KEPT, f"{names[0]} ({len(kept):,})"),
        (rejected, _REJECTED, f"{names[1]} ({len(rejected):,})"),
    ]
    shown = [group for group in groups if len(group[0])]
    if shown:
        # A logarithmic axis has no 0; empty texts stand in its first bar.
        values = [np.maximum(group[0], 1) if logarithmic else group[0] for group in shown]
        axis.hist(values, bins=edges, stacked=True, color=[g[1] for g in shown], label=[g[2] for g in shown], zorder=2)
    for limit in drawn:
        axis.axvline(limit.line, color=_LIMIT, linewidth=1.3, linestyle="--", zorder=3)
    beyond = [limit for limit in limits if limit not in drawn]
    _name_limits(axis, drawn, beyond)
    _label(axis, f"{unit}, logarithmic scale" if logarithmic else unit, logarithmic, edges)
    if shown:
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _edges(lengths: Numbers, lines: Sequence[int]) -> tuple[list[float], bool]:
    """Give the edges of the bars, and whether they grow by a factor; every line stands on an edge.

    So no bar holds lengths of both sides of a limit.
    """
    low, high = min([int(lengths.min()), *lines]), max(int(lengths.max()), *lines, 1)
    usual = int(np.sort(lengths)[len(lengths) // 20])
    if logarithmic := high > 20 * max(usual, 1):
        start = max(low, 1)
        edges = [start * (high * 1.05 / start) ** (step / _BINS) for step in range(_BINS + 1)]
    else:
        width = max(1, -(-(high - low + 1) // _BINS))
        edges = [float(low + width * step) for step in range((high - low) // width + 2)]
    for line in (line for line in lines if line not in edges):
        # The outer edges stay, or the lengths beyond a line would fall off the plot.
        nearest = min(edges[1:-1], key=lambda edge: abs(edge - line), default=line)
        edges = sorted({*edges, line} - ({nearest} if nearest not in lines else set()))
    return edges, logarithmic


def _name_limits(axis: Any, drawn: Sequence[Limit], beyond: Sequence[Limit]) -> None:
    for limit in drawn:
        axis.annotate(
            f"{limit.name} {limit.value:,}",
            (limit.line, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            color=_LIMIT,
            fontsize=9,
        )
    if beyond:
        text = ", ".join(f"{limit.name} {limit.value:,} →" for limit in beyond)
        axis.annotate(
            text,
            (1, 1),
            xycoords="axes fraction",
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            color=_LIMIT,
            fontsize=9,
        )


def _label(axis: Any, unit: str, logarithmic: bool, edges: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if logarithmic:
        axis.set_xscale("log")
        crowded = edges[-1] > 3000 * edges[0]
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0,) if crowded else (1.0, 2.0, 5.0), numticks=20))
        axis.xaxis.set_minor_formatter(NullFormatter())
    else:
        axis.xaxis.set_major_locator(MaxNLocator(nbins=9, integer=True))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_xlim(edges[0], edges[-1])
    axis.set_xlabel(unit)
    axis.set_ylabel("rows")
    axis.tick_params(length=0, colors=_INK)
    axis.grid(axis="y", color="#e6e6e6", zorder=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
