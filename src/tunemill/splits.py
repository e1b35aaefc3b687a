"""Deal clean rows to train, validation and test so that nothing leaks from one to another.

Rows that belong together (near-identical prompts, one conversation, one user) are one group and go to one side whole.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated, Self

import msgspec
import numpy as np
from pydantic import Field, model_validator

from tunemill.dedup.clusters import clusters
from tunemill.dedup.components import Ints, components
from tunemill.dedup.overlap import Pairs, crossing, plan, shingled
from tunemill.dedup.text import normalise, prompt_text
from tunemill.errors import DataError
from tunemill.rows import Row
from tunemill.section import Section

SIDES = ("train", "validation", "test")
SHINGLE = 5
ROUNDS = 10
"""How often leaks that the grouping missed are merged and the rows dealt again."""

Share = Annotated[float, Field(gt=0, lt=1)]


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
    seed: Annotated[int, Field(ge=0)] = 0
    """Another seed deals the groups otherwise."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(f"shares add up to {total:.6g}, not 1")
        return self


class Certificate(msgspec.Struct, frozen=True):
    """What was counted after the rows were dealt, by an exact search that shares nothing with the grouping's hashes."""

    rows: dict[str, int]
    groups: dict[str, int]
    largest_group: int
    threshold: float
    cross_split_near_duplicates: int
    """Pairs of prompts on two sides that reach the threshold."""
    highest_similarity: float
    """Of the pairs on two sides that the search met."""
    shared_conversations: int
    shared_users: int
    shared_rows: int

    @property
    def leaks(self) -> int:
        """Everything that stands on two sides."""
        shared = self.shared_conversations + self.shared_users + self.shared_rows
        return self.cross_split_near_duplicates + shared


Parts = dict[str, list[Row]]


def split(rows: Sequence[Row], settings: SplitSettings) -> tuple[Parts, Certificate]:
    """Group, deal and certify; a leak that the grouping missed is merged and the rows are dealt again.

    Raises:
        DataError: there are too few groups for three sides, or one group is so large that a side stays empty.
    """
    ordered = sorted(rows, key=lambda row: (row.place, row.row_id))
    labels = groups(ordered, settings)
    for _ in range(ROUNDS):
        sides = deal(ordered, labels, settings)
        leaks, highest = cross_split(ordered, sides, settings.group_threshold)
        found = certificate(ordered, labels, sides, settings, len(leaks.left), highest)
        if found.leaks == 0:
            named = {name: [r for r, side in zip(ordered, sides, strict=True) if side == name] for name in SIDES}
            return named, found
        labels = components(
            len(ordered), np.concatenate([np.arange(len(ordered)), leaks.left]), np.concatenate([labels, leaks.right])
        )
    raise DataError(f"split: {found.leaks} leaks are left after dealing {ROUNDS} times; raise split.group_threshold")


def groups(rows: Sequence[Row], settings: SplitSettings) -> Ints:
    """Label each row with the smallest index of its group."""
    labels = [clusters([normalise(prompt_text(row)) for row in rows], settings.group_threshold, SHINGLE)]
    if settings.by_conversation:
        labels.append(_same([row.conversation for row in rows]))
    if settings.by_user:
        labels.append(_same([row.user for row in rows]))
    labels.append(_same([row.row_id for row in rows]))
    here = np.tile(np.arange(len(rows)), len(labels))
    return components(len(rows), here, np.concatenate(labels))


def deal(rows: Sequence[Row], labels: Ints, settings: SplitSettings) -> list[str]:
    """Give each row its side: the largest groups first, each to the side that lacks most; ties in salted order.

    A group is known by its smallest row id, so neither the files' order nor their names matter.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        members[int(label)].append(i)
    if len(members) < len(SIDES):
        raise DataError(
            f"split: {len(rows):,} rows form {len(members)} groups, and three sides need at least three; "
            "add rows, or raise split.group_threshold"
        )
    salted = {label: _salted(min(rows[i].row_id for i in inside), settings.seed) for label, inside in members.items()}
    lacking = {side: getattr(settings, side) * len(rows) for side in SIDES}
    sides = [""] * len(rows)
    for label in sorted(members, key=lambda one: (-len(members[one]), salted[one])):
        side = max(SIDES, key=lambda name: round(lacking[name], 6))
        lacking[side] -= len(members[label])
        for i in members[label]:
            sides[i] = side
    counts = Counter(sides)
    if empty := [side for side in SIDES if not counts[side]]:
        largest = max(len(inside) for inside in members.values())
        raise DataError(
            f"split: {empty[0]} would be empty: {len(rows):,} rows form {len(members)} groups, the largest of "
            f"{largest:,} rows; raise split.group_threshold (now {settings.group_threshold}), or add rows"
        )
    return sides


def cross_split(rows: Sequence[Row], sides: Sequence[str], threshold: float) -> tuple[Pairs, float]:
    """Give every pair of prompts on two sides that reaches the threshold, and the highest similarity met."""
    sets = shingled([normalise(prompt_text(row)) for row in rows], SHINGLE)
    parts = np.array([SIDES.index(side) for side in sides], np.int64)
    return crossing(sets, parts, threshold, plan(sets, parts, threshold, whole=False))


def certificate(
    rows: Sequence[Row], labels: Ints, sides: Sequence[str], settings: SplitSettings, leaks: int, highest: float
) -> Certificate:
    """Count what stands on two sides."""
    placed = list(zip(rows, sides, strict=True))
    return Certificate(
        rows={side: sides.count(side) for side in SIDES},
        groups={side: len({int(g) for g, s in zip(labels, sides, strict=True) if s == side}) for side in SIDES},
        largest_group=int(np.bincount(labels).max()),
        threshold=settings.group_threshold,
        cross_split_near_duplicates=leaks,
        highest_similarity=round(highest, 4),
        shared_conversations=_shared((r.conversation, s) for r, s in placed) if settings.by_conversation else 0,
        shared_users=_shared((r.user, s) for r, s in placed) if settings.by_user else 0,
        shared_rows=_shared((r.row_id, s) for r, s in placed),
    )


def _shared(placed: Iterable[tuple[str | None, str]]) -> int:
    found: dict[str, set[str]] = defaultdict(set)
    for name, side in placed:
        if name is not None:
            found[name].add(side)
    return sum(len(sides) > 1 for sides in found.values())


def _same(names: Sequence[str | None]) -> Ints:
    first: dict[str, int] = {}
    return np.array([i if name is None else first.setdefault(name, i) for i, name in enumerate(names)], np.int64)


def _salted(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()
