"""Remember on which side every row stands that was ever dealt, in segments that are only ever added to.

    ledger/0000.parquet   what the first night dealt
    ledger/0001.parquet   what the second night added

A night's folder holds its own segment and, as second names of the same bytes, those of the nights before: whichever
earlier night is deleted, none of its rows is forgotten.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from tunemill.dedup.components import Ints
from tunemill.rows import Row
from tunemill.splits.settings import SIDES, SplitSettings


class Grouping(msgspec.Struct, frozen=True):
    """What belonged together when rows were dealt."""

    threshold: float
    by_conversation: bool
    by_user: bool

    @classmethod
    def of(cls, settings: SplitSettings) -> "Grouping":
        """Give the grouping that is asked for."""
        return cls(settings.group_threshold, settings.by_conversation, settings.by_user)

    def covers(self, asked: "Grouping") -> bool:
        """Say whether all that belongs together under `asked` did so under this."""
        return asked == self.common(asked)

    def common(self, other: "Grouping") -> "Grouping":
        """Give what holds among all rows where some were dealt under this grouping and some under the other."""
        return Grouping(
            max(self.threshold, other.threshold),
            self.by_conversation and other.by_conversation,
            self.by_user and other.by_user,
        )


class Entry(msgspec.Struct, frozen=True):
    """One row that was dealt."""

    row_id: str
    source: str
    line: int
    group: str
    """Smallest row id of the group on the night that it was first seen."""
    side: str
    text: str
    """What the user said, normalised: what later rows are compared with."""
    conversation: str | None
    user: str | None

    @property
    def name(self) -> tuple[str, str, str]:
        """What makes it one row: the same messages of another user are another."""
        return (self.row_id, self.conversation or "", self.user or "")


class Columns(NamedTuple):
    """Entries, column by column."""

    row_id: Sequence[str] = ()
    source: Sequence[str] = ()
    line: Sequence[int] = ()
    group: Sequence[str] = ()
    side: Sequence[str] = ()
    text: Sequence[str] = ()
    conversation: Sequence[str | None] = ()
    user: Sequence[str | None] = ()


@dataclass(frozen=True)
class Ledger:
    """Every row that earlier nights dealt."""

    entries: Columns = field(default_factory=Columns)
    nights: int = 0
    grouping: Grouping | None = None
    """What holds among all entries; None where there is none yet."""

    def __len__(self) -> int:
        return len(self.entries.row_id)

    @cached_property
    def sides(self) -> Ints:
        """Side of every entry, by its place in SIDES."""
        numbers = {side: number for number, side in enumerate(SIDES)}
        return np.fromiter((numbers[side] for side in self.entries.side), np.int64, len(self))

    @cached_property
    def places(self) -> dict[tuple[str, str | None, str | None], int]:
        """Where the entry of a row stands, by row id, conversation and user."""
        entries = self.entries
        names = zip(entries.row_id, entries.conversation, entries.user, strict=True)
        return {name: place for place, name in enumerate(names)}

    @cached_property
    def groups(self) -> Ints:
        """Number of every entry's group."""
        numbers: dict[str, int] = {}
        return np.fromiter((numbers.setdefault(g, len(numbers)) for g in self.entries.group), np.int64, len(self))

    def place(self, row: Row) -> int:
        """Find the entry of a row, -1 where it was never dealt."""
        return self.places.get((row.row_id, row.conversation, row.user), -1)

    def with_night(self, entries: Iterable[Entry], grouping: Grouping) -> "Ledger":
        """Give the ledger as it is after a night."""
        added = [msgspec.structs.astuple(entry) for entry in entries]
        columns = zip(*added, strict=True) if added else [()] * len(Columns._fields)
        whole = Columns(*([*old, *new] for old, new in zip(self.entries, columns, strict=True)))
        return Ledger(whole, self.nights + 1, self.grouping.common(grouping) if self.grouping else grouping)


def segment(night: int) -> str:
    """Name the file of a night, counted from 0."""
    return f"{night:04}.parquet"


def write(path: Path, entries: Iterable[Entry]) -> None:
    """Write a night's entries, in an order that the order of its rows does not change."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = [(name, pa.int64() if name == "line" else pa.string()) for name in Columns._fields]
    ordered = sorted(entries, key=lambda entry: entry.name)
    table = pa.Table.from_pylist([msgspec.structs.asdict(entry) for entry in ordered], schema=pa.schema(kinds))
    pq.write_table(table, path, compression="zstd")


def groups_of(folder: Path, rows: Sequence[Row]) -> list[str]:
    """Name the group of each row, all of which were dealt."""
    dealt = read(folder, Grouping(1, by_conversation=False, by_user=False))
    return [dealt.entries.group[dealt.place(row)] for row in rows]


def read(folder: Path, grouping: Grouping) -> Ledger:
    """Read the segments of every night."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted(folder.glob("*.parquet"))
    table = pa.concat_tables(pq.read_table(path, columns=list(Columns._fields)) for path in paths)
    return Ledger(Columns(*(c.to_numpy().tolist() for c in table.columns)), len(paths), grouping)
