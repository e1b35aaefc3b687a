"""Show a training to people: its loss as a picture, and one row as it was trained."""

from collections.abc import Sequence
from pathlib import Path

from tunemill.training.schedule import Point


def loss_curve(path: Path, training: Sequence[Point], validation: Sequence[Point], chosen: int) -> None:
    """Draw training and validation loss over the steps as a PNG, with the chosen step marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(*_columns(training), color="tab:blue", linewidth=1, label="training, each step's rows")
    if validation:
        axes.plot(*_columns(validation), color="tab:orange", marker="o", label="validation, all rows")
    axes.axvline(chosen, color="gray", linestyle=":", label=f"kept: step {chosen}")
    axes.set(xlabel="step", ylabel="loss (nats per answer token)", title="Loss while training")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)  # type: ignore[call-arg]
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})


def example_page(example: str) -> str:
    """Write the page that shows one row with its trained tokens between « and »."""
    fence = "`" * 4
    return (
        "# One row as the model saw it\n\n"
        "Only what stands between « and » was trained; the end of the turn belongs to it.\n\n"
        f"{fence}text\n{example}\n{fence}\n"
    )


def _columns(points: Sequence[Point]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [loss for _, loss in points]
