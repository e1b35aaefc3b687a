"""Say how many training rows the course asks for, by what is taught."""

from dataclasses import dataclass
from typing import Literal

TaskType = Literal["style", "domain", "new_task", "behaviour"]


@dataclass(frozen=True)
class Size:
    """How many rows one kind of task needs."""

    minimum: int
    """Fewest rows with which it is worth a try."""
    minimum_up_to: int
    """Where the course gives the minimum as a range, its upper end; else the same number."""
    recommended: int


SIZES: dict[TaskType, Size] = {
    "style": Size(100, 500, 1_000),
    "domain": Size(1_000, 1_000, 5_000),
    "new_task": Size(5_000, 5_000, 10_000),
    "behaviour": Size(500, 2_000, 5_000),
}


def size_warning(task_type: TaskType, train_rows: int) -> str | None:
    """Compare the number of training rows with the course's guideline; None where it is reached."""
    size = SIZES[task_type]
    if train_rows >= size.recommended:
        return None
    exact = size.minimum == size.minimum_up_to
    minimum = f"{size.minimum:,}" if exact else f"{size.minimum:,} to {size.minimum_up_to:,}"
    below = "minimum" if train_rows < size.minimum else "recommended number"
    return (
        f"{train_rows:,} training rows are below the {below} for `{task_type}`: "
        f"minimum {minimum}, recommended {size.recommended:,} (task_type in the configuration)"
    )
