"""Draw the scores of the three arms with their intervals."""

from pathlib import Path
from typing import Any

from tunemill.evaluation.arms import ARMS, Arm
from tunemill.evaluation.report import NAMES
from tunemill.evaluation.statistics import Interval
from tunemill.evaluation.summary import Summary

COLOURS: dict[Arm, str] = {"base": "#9aa5b1", "few_shot": "#e0a03c", "tuned": "#2f6db3"}
_INK = "#333333"


def draw(summary: Summary, path: Path) -> None:
    """Write a PNG: grouped bars for the metrics of 0..1, and a panel of its own for perplexity."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    metrics = list(summary.arms["base"].metrics)
    shares = [metric for metric in metrics if metric != "perplexity"]
    panels = [names for names in (shares, [m for m in metrics if m == "perplexity"]) if names]
    figure = Figure(figsize=(2.6 + 1.7 * len(metrics), 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=[len(names) for names in panels])[0]
    for axis, names in zip(axes, panels, strict=True):
        _panel(axis, summary, names)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(ARMS), frameon=False)
    size = f"{summary.rows:,} test rows; whiskers: {summary.confidence * 100:.3g} % intervals"
    figure.supxlabel(size, x=0.995, ha="right", fontsize=8, color=_INK)
    figure.savefig(path, metadata={"Software": None})


def _panel(axis: Any, summary: Summary, metrics: list[str]) -> None:
    width = 0.27
    for place, arm in enumerate(ARMS):
        found = [summary.arms[arm].metrics[metric] for metric in metrics]
        at = [index + (place - 1) * width for index in range(len(metrics))]
        values = [interval.value for interval in found]
        bars = axis.bar(at, values, width * 0.92, color=COLOURS[arm], label=NAMES[arm], zorder=2)
        axis.errorbar(at, values, yerr=_whiskers(found), fmt="none", ecolor=_INK, elinewidth=1, capsize=3, zorder=3)
        for bar, interval in zip(bars, found, strict=True):
            _write_value(axis, bar.get_x() + bar.get_width() / 2, interval)
    axis.set_xticks(range(len(metrics)), [_label(metric) for metric in metrics])
    if metrics == ["perplexity"]:
        _from_one(axis, max(summary.arms[arm].metrics["perplexity"].high for arm in ARMS))
    else:
        axis.set_ylim(0, 1.12)
    axis.tick_params(length=0, colors=_INK)
    axis.grid(axis="y", color="#e6e6e6", zorder=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _from_one(axis: Any, highest: float) -> None:
    """Let bars stand on 1, the perplexity of a model that is sure and right; a bar's height is then nats a token."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis.set_yscale("log")
    axis.set_ylim(1, max(2.0, highest**1.12) if highest < 1e30 else None)
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.minorticks_off()


def _write_value(axis: Any, x: float, interval: Interval) -> None:
    top = max(interval.value, interval.high)
    axis.annotate(
        f"{interval.value:.2f}" if interval.value < 100 else f"{interval.value:,.0f}",
        (x, top),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=8,
        color=_INK,
    )


def _whiskers(found: list[Interval]) -> list[list[float]]:
    """Give how far each interval reaches below and above its value."""
    return [[max(0.0, i.value - i.low) for i in found], [max(0.0, i.high - i.value) for i in found]]


def _label(metric: str) -> str:
    return {
        "field_accuracy": "field\naccuracy",
        "exact_match": "exact\nmatch",
        "token_f1": "token F1",
        "rouge_l": "ROUGE-L",
        "json_valid": "valid\nJSON",
        "perplexity": "perplexity\n(log scale, lower is better)",
    }.get(metric, metric)
