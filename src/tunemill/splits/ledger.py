"""Remember on which side every row stands that was ever dealt, in segments that are only ever added to.

    ledger/0000.parquet         what the first night dealt
    ledger/0001.parquet         what the second night added
    prompts/0000-….npy          the prompts of the first night, and what they are looked up by; see `splits.prompts`

A night's folder holds its own segments and, as second names of the same bytes, those of the nights before: whichever
earlier night is deleted, none of its rows is forgotten.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from tunemill.dedup.bands import Bands, signed
from tunemill.dedup.components import Ints
from tunemill.errors import DataError
from tunemill.rows import Row
from tunemill.splits import prompts
from tunemill.splits.columns import Columns
from tunemill.splits.keys import Keys, keys, matched, numbered
from tunemill.splits.settings import SIDES, SplitSettings

if TYPE_CHECKING:
    import pyarrow as pa

SLIM = ("row_id", "conversation", "user", "group", "side")
NAME = ("row_id", "conversation", "user")
"""What makes it one row: the same messages of another user are another."""
SHINGLE = 5


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


class Entries(NamedTuple):
    """Entries, column by column."""

    row_id: Sequence[str] = ()
    source: Sequence[str] = ()
    line: Sequence[int] = ()
    group: Sequence[str] = ()
    side: Sequence[str] = ()
    text: Sequence[str] = ()
    conversation: Sequence[str | None] = ()
    user: Sequence[str | None] = ()


def schema() -> "pa.Schema":
    """Give the parquet schema of a segment."""
    import pyarrow as pa

    return pa.schema([(name, pa.int64() if name == "line" else pa.string()) for name in Entries._fields])


def table_of(entries: Iterable[Entry]) -> "pa.Table":
    """Lay entries out as a table, in an order that theirs does not change."""
    import pyarrow as pa

    ordered = sorted(entries, key=lambda entry: entry.name)
    return pa.Table.from_pylist([msgspec.structs.asdict(entry) for entry in ordered], schema=schema())


@dataclass(frozen=True)
class Ledger:
    """Every row that earlier nights dealt."""

    nights: int = 0
    grouping: Grouping | None = None
    """What holds among all entries; None where there is none yet."""
    parts: tuple["pa.Table", ...] = ()
    """One for each night; those that were read from files may lack the texts."""
    files: tuple[Path, ...] = ()
    """Of the first parts, their files."""
    prompts: Path | None = None
    """Folder of what the prompts in `files` are looked up by."""

    def __len__(self) -> int:
        return sum(part.num_rows for part in self.parts)

    @cached_property
    def table(self) -> "pa.Table":
        """What rows are known by, and where they stand: all but their texts and origins."""
        import pyarrow as pa

        kinds = pa.schema([schema().field(name) for name in SLIM])
        return pa.concat_tables([part.select(SLIM) for part in self.parts] or [kinds.empty_table()])

    @cached_property
    def entries(self) -> Entries:
        """Every entry as objects, for a look at a few: of a million it takes seconds."""
        return Entries(*(self._column(name) for name in Entries._fields))

    @cached_property
    def texts(self) -> list[str]:
        """The prompt of every entry."""
        return self._column("text")

    def _column(self, name: str) -> list[Any]:
        return [value for number in range(len(self.parts)) for value in self._values(number, name).to_pylist()]

    def _values(self, number: int, name: str) -> "pa.Array | pa.ChunkedArray":
        """Read a column of one night."""
        import pyarrow.parquet as pq

        part = self.parts[number]
        if name in part.column_names:
            return part[name]
        if (number, name) not in self._opened:
            kept = prompts.read_texts(self.prompts, number) if name == "text" and self.prompts else None
            found = pq.read_table(self.files[number], columns=[name])[name] if kept is None else kept
            self._opened[number, name] = found
        return self._opened[number, name]

    @cached_property
    def _opened(self) -> "dict[tuple[int, str], pa.Array | pa.ChunkedArray]":
        return {}

    def at(self, places: Ints, name: str) -> list[Any]:
        """Give a column of a few entries, whose places ascend."""
        found: list[Any] = []
        for number, first in enumerate(self._begins()):
            here = places[(places >= first) & (places < first + self.parts[number].num_rows)] - first
            if here.size:
                found += self._values(number, name).take(here).to_pylist()
        return found

    def _begins(self) -> list[int]:
        return [sum(part.num_rows for part in self.parts[:number]) for number in range(len(self.parts))]

    def bands(self, threshold: float) -> Iterator[tuple[int, Bands]]:
        """Yield what the prompts are looked up by, with the place of the first, night by night."""
        for number, first in enumerate(self._begins()):
            kept = self.prompts and number < len(self.files) and prompts.read_bands(self.prompts, number, threshold)
            yield first, kept or signed(self._values(number, "text").to_pylist(), threshold, SHINGLE)

    @cached_property
    def sides(self) -> Ints:
        """Side of every entry, by its place in SIDES."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found: Ints = pc.index_in(self.table["side"], pa.array(SIDES)).to_numpy().astype(np.int64)
        return found

    @cached_property
    def groups(self) -> Ints:
        """Group of every entry: the first entry that belongs to it."""
        return numbered(self.table["group"])

    @cached_property
    def _keys(self) -> Keys:
        return keys(self.table, NAME)

    def places(self, rows: "pa.Table") -> Ints:
        """Find the entry of each row by its id, conversation and user; -1 where it was never dealt."""
        return matched(keys(rows, NAME), self._keys) if len(self) else np.full(rows.num_rows, -1)

    def place(self, row: Row) -> int:
        """Find the entry of one row, -1 where it was never dealt."""
        return int(self.places(Columns.of([row]).table)[0])

    def with_night(self, entries: "Iterable[Entry] | pa.Table", grouping: Grouping) -> "Ledger":
        """Give the ledger as it is after a night."""
        import pyarrow as pa

        added = entries if isinstance(entries, pa.Table) else table_of(entries)
        after = self.grouping.common(grouping) if self.grouping else grouping
        return Ledger(self.nights + 1, after, (*self.parts, added), self.files, self.prompts)


def segment(night: int) -> str:
    """Name the file of a night, counted from 0."""
    return f"{night:04}.parquet"


def write(folder: Path, night: int, added: "pa.Table", bands: Bands, threshold: float) -> None:
    """Write a night's entries to the folder of a split, and what their prompts are looked up by."""
    import pyarrow.parquet as pq

    pq.write_table(added.drop_columns("text"), folder / "ledger" / segment(night), compression="zstd")
    prompts.write(folder / "prompts", night, added["text"].to_pylist(), bands, threshold)


def read(folder: Path, grouping: Grouping, kept: Path | None = None) -> Ledger:
    """Read the segments of every night, without texts and origins."""
    import pyarrow.parquet as pq

    paths = tuple(sorted(folder.glob("*.parquet")))
    parts = tuple(pq.read_table(path, columns=list(SLIM)) for path in paths)
    return Ledger(len(paths), grouping, parts, paths, kept)


def groups_in(folder: Path, rows: "pa.Table") -> Ints:
    """Number the group of each row, equal numbers for one group, by the ledger in the folder of a split.

    Raises:
        DataError: a row was never dealt there.
    """
    known = read(folder / "ledger", Grouping(0.5, True, True))
    places = known.places(rows)
    if (places < 0).any():
        source, line = (rows[name][int(np.argmin(places))].as_py() for name in ("source", "line"))
        raise DataError(
            f"{folder}/ledger: {int((places < 0).sum()):,} of {rows.num_rows:,} rows were never dealt there, the first "
            f"{source[:12]}:{line}\n  Take the rows of this split."
        )
    return known.groups[places]
