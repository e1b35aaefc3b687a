"""Say from which share a dataset is called unbalanced, and what the data page shows."""

from typing import Annotated

from pydantic import Field

from tunemill.quality.sizes import TaskType
from tunemill.section import Section

Share = Annotated[float, Field(gt=0, lt=1)]


class BalanceSettings(Section):
    """Which shares of labels and of look-alike rows are told as a warning; nothing is dropped for them."""

    field: Annotated[str, Field(min_length=1)] | None = None
    """Field of the JSON answer whose values are counted, e.g. `intent`. Left out: whole answers where there are at
    most 200 different ones of 5 rows each on average; else every field of the JSON answers that is so."""
    warn_above: Share = 0.8
    """Largest share of the rows that one value may have: a model that always gave it would be right as often."""
    warn_below: Share | None = None
    """Smallest share that a value may have; left out, a fifth of what each would have if all had the same."""
    warn_cluster_above: Share = 0.1
    """Largest share of the valid rows that one row and its copies may have, and of the dealt rows that the largest
    group of the split may have (similar prompts, one conversation or user)."""


class PageSettings(Section):
    """What the data page shows and warns of; changing it makes only the page anew."""

    balance: BalanceSettings = BalanceSettings()
    examples: Annotated[int, Field(ge=1, le=20)] = 3
    """How many duplicates, prompts with several answers and training rows are shown."""


class Task(Section):
    """What is taught, as a section of its own: it decides how many rows the page asks for."""

    type: TaskType = "new_task"
