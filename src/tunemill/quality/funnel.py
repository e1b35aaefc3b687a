"""Follow the rows from the raw files to the three sides: how many came to each stage, and why some went no further."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

SIDES = ("train", "validation", "test")


class Place(msgspec.Struct, frozen=True):
    """Where a row was read."""

    source: str
    line: int


class Left(msgspec.Struct, frozen=True):
    """One row that went no further, as the stage that left it out has listed it."""

    source: str
    line: int
    reason: str
    detail: str = ""


class Loss(msgspec.Struct, frozen=True):
    """Rows that went no further, for one reason."""

    stage: str
    reason: str
    rows: int
    example: Place | None
    """The first that its stage has listed; None where it lists none."""
    detail: str = ""


class Step(msgspec.Struct, frozen=True):
    """What a stage was given and what went on from it."""

    stage: str
    came: int
    left: int


class Funnel(msgspec.Struct, frozen=True):
    """Every record that was read: on one side in the end, or left out by one stage for one reason."""

    steps: list[Step]
    sides: dict[str, int]
    losses: list[Loss]
    """In the order of the stages, then most first."""

    @property
    def read(self) -> int:
        """Records that were read."""
        return self.steps[0].came

    @property
    def left_out(self) -> int:
        """Records that stand on no side."""
        return sum(loss.rows for loss in self.losses)

    @property
    def unaccounted(self) -> int:
        """Records that neither stand on a side nor are named: 0, or something is wrong."""
        return self.read - sum(self.sides.values()) - self.left_out


def losses(stage: str, left: Iterable[Left]) -> list[Loss]:
    """Count what a stage left out by its reason, most first, reasons with as many rows by their name."""
    counts: Counter[str] = Counter()
    first: dict[str, Left] = {}
    for one in left:
        counts[one.reason] += 1
        first.setdefault(one.reason, one)
    ranked = sorted(counts, key=lambda reason: (-counts[reason], reason))
    return [Loss(stage, r, counts[r], Place(first[r].source, first[r].line), first[r].detail) for r in ranked]


def funnel(read: int, left_out: Mapping[str, Sequence[Loss]], sides: Mapping[str, int]) -> Funnel:
    """Join what each stage left out, stages in their order, to what stands on the sides in the end."""
    steps, came = [], read
    for stage, found in left_out.items():
        left = came - sum(loss.rows for loss in found)
        steps.append(Step(stage, came, left))
        came = left
    return Funnel(steps, {side: sides[side] for side in SIDES}, [loss for found in left_out.values() for loss in found])
