"""Deal clean rows to train, validation and test so that nothing leaks from one to another.

Rows that belong together (near-identical prompts, one conversation, one user) are one group and go to one side whole.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated, Self

import msgspec
import numpy as np
from pydantic import Field, model_validator

from tunemill.dedup.clusters import clusters
from tunemill.dedup.components import Ints, components
from tunemill.dedup.crossings import Crossings, Method, crossings
from tunemill.dedup.text import normalise, prompt_text
from tunemill.errors import DataError
from tunemill.rows import Row
from tunemill.section import Section

SIDES = ("train", "validation", "test")
SHINGLE = 5
ROUNDS = 10
"""How often leaks that the grouping missed are merged and the rows dealt again."""
CROWDING = 0.1
"""Largest part of a side that one group may fill while another side can take it: few groups make a poor verdict."""
TOLERANCE = 0.1
"""How far the share of a side may lie from the one asked for."""
MANY = 10
"""Rows from which that is held against a split: of five, one row more is a fifth."""

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
    """What was counted after the rows were dealt, by a search that shares no hash with the grouping."""

    rows: dict[str, int]
    groups: dict[str, int]
    largest_group: int
    threshold: float
    cross_split_near_duplicates: int
    """Pairs of prompts on two sides that reach the threshold."""
    highest_similarity: float | None
    """Of the prompts on two sides; None where there were too many to look at more than pairs at the threshold."""
    method: Method
    """How pairs were looked for; all but MinHash are exact."""
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
        DataError: there are too few groups for three sides, or one is so large that the shares cannot be met.
    """
    ordered = sorted(rows, key=lambda row: (row.place, row.row_id))
    return certified(ordered, groups(ordered, settings), settings)


def certified(ordered: Sequence[Row], labels: Ints, settings: SplitSettings) -> tuple[Parts, Certificate]:
    """Deal and count; while twins are found on two sides, merge their groups and deal again."""
    for _ in range(ROUNDS):
        sides = deal(ordered, labels, settings)
        twins = cross_split(ordered, sides, settings.group_threshold)
        found = certificate(ordered, labels, sides, settings, twins)
        if found.leaks == 0:
            named = {name: [r for r, side in zip(ordered, sides, strict=True) if side == name] for name in SIDES}
            return named, found
        left, right = twins.pairs.left, twins.pairs.right
        here = np.arange(len(ordered))
        labels = components(len(ordered), np.concatenate([here, left]), np.concatenate([labels, right]))
    one, other = (f"{ordered[int(side[0])].source[:12]}:{ordered[int(side[0])].line}" for side in (left, right))
    raise DataError(
        f"split: {found.leaks} leaks are left after dealing {ROUNDS} times, the first between the rows {one} and "
        f"{other}; change split.group_threshold (now {settings.group_threshold})"
    )


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
    """Give each row its side, the largest groups first, so that single rows fill the shares exactly.

    A group is known by its smallest row id and dealt in salted order among those of its size, so neither the files'
    order nor their names matter. Every side gets groups of every size that it has room for: a test set of single rows
    alone would leave out whatever is asked often.
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
    asked = {side: getattr(settings, side) * len(rows) for side in SIDES}
    placed = dict.fromkeys(SIDES, 0)
    sides = [""] * len(rows)
    for dealt, label in enumerate(sorted(members, key=lambda one: (-len(members[one]), salted[one]))):
        side = _side(len(members[label]), len(members) - dealt, asked, placed)
        placed[side] += len(members[label])
        for i in members[label]:
            sides[i] = side
    _check_shares(placed, asked, members, settings)
    return sides


def _side(size: int, left: int, asked: dict[str, float], placed: dict[str, int]) -> str:
    """Choose the side of the next group: the emptiest for its share of those it fits, else the one that lacks most."""
    empty = [side for side in SIDES if not placed[side]]
    if left <= len(empty):
        return empty[0]
    fits = [
        side
        for side in SIDES
        if placed[side] + size <= asked[side] + 1e-6 and (size == 1 or size <= CROWDING * asked[side])
    ]
    if fits:
        return max(fits, key=lambda side: round(1 - placed[side] / asked[side], 9))
    return max(SIDES, key=lambda side: round(asked[side] - placed[side], 6))


def _check_shares(
    placed: dict[str, int], asked: dict[str, float], members: dict[int, list[int]], settings: SplitSettings
) -> None:
    count = sum(placed.values())
    if count < MANY:
        return
    side = max(SIDES, key=lambda name: abs(placed[name] - asked[name]))
    if abs(placed[side] - asked[side]) > TOLERANCE * count:
        largest = max(map(len, members.values()))
        raise DataError(
            f"split: {side} would get {placed[side] / count:.0%} of {count:,} rows, not {asked[side] / count:.0%}: "
            f"{len(members):,} groups, the largest of {largest:,} rows; raise split.group_threshold "
            f"(now {settings.group_threshold}), or add rows"
        )


def cross_split(rows: Sequence[Row], sides: Sequence[str], threshold: float) -> Crossings:
    """Find the pairs of prompts on two sides that reach the threshold."""
    parts = np.array([SIDES.index(side) for side in sides], np.int64)
    return crossings([normalise(prompt_text(row)) for row in rows], parts, threshold, SHINGLE)


def certificate(
    rows: Sequence[Row], labels: Ints, sides: Sequence[str], settings: SplitSettings, twins: Crossings
) -> Certificate:
    """Count what stands on two sides."""
    placed = list(zip(rows, sides, strict=True))
    return Certificate(
        rows={side: sides.count(side) for side in SIDES},
        groups={side: len({int(g) for g, s in zip(labels, sides, strict=True) if s == side}) for side in SIDES},
        largest_group=int(np.bincount(labels).max()),
        threshold=settings.group_threshold,
        cross_split_near_duplicates=len(twins.pairs.left),
        highest_similarity=None if twins.highest is None else round(twins.highest, 4),
        method=twins.method,
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
