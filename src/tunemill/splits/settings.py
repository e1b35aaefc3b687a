"""Say how rows are dealt, and what belongs together."""

from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from tunemill.section import PLACE, Section

SIDES = ("train", "validation", "test")

Share = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, StringConstraints(min_length=1)]


class ByTime(Section):
    """Test on what is newest, as a model in use is tested by the days after its training.

    A group goes to test as a whole, its older rows too. Rows without a time, or with one that is not ISO 8601, count as
    older than all others. From the second night on the newest of the new groups go to test, as long as it lacks rows of
    its share; a group keeps its side, so new rows of a group that trains already train, and are counted.
    """

    days: Annotated[int, Field(ge=1)] | None = None
    """Days before the newest row that are held out on the first night, whatever the share of test; without it the
    newest groups that fill that share are."""


class SplitSettings(Section):
    """How rows are dealt, and what belongs together."""

    train: Share = 0.8
    """Share of the rows to train on."""
    validation: Share = 0.1
    """Share of the rows that decide when to stop."""
    test: Share = 0.1
    """Share of the rows that give the verdict."""
    group_threshold: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Jaccard similarity of the user's turns (character 5-grams) from which two rows stay on one side."""
    by_conversation: bool = True
    """Keep rows of one conversation together, where it is known."""
    by_user: bool = True
    """Keep rows of one user together, where it is known."""
    by_time: ByTime | None = None
    """Hold out the newest groups as test; without it groups are dealt by chance."""
    benchmarks: Annotated[tuple[Name, ...], Field(json_schema_extra=PLACE)] = ()
    """Files of benchmarks, relative to the project (JSONL, JSON, CSV, parquet or text, one item a line): rows that hold
    their items never train."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Another seed deals the groups otherwise."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"shares add up to {total:.6g}, not 1")
        return self
