"""Read from files of rows only what the data page needs, batch by batch: a million rows are never held at once."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from tunemill import segments
from tunemill.quality.balance import Tally
from tunemill.quality.funnel import Place
from tunemill.rows import Duplicate, Message, Row

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")
Named = tuple[str, Place]
"""A row by its id and where it was read."""
SAMPLE = 2_000
"""Rows that are tokenised at most: about a second."""


class Contradicted(msgspec.Struct, frozen=True):
    """A row whose prompt has more than one answer, as deduplicate has listed it."""

    prompt_id: str
    source: str
    line: int
    time: str | None
    prompt: str
    answer: str
    outcome: str


def stays_and_goes(duplicate: Duplicate) -> tuple[Named, Named]:
    """Give the row that stays, and the one that was dropped: id and place."""
    stays = duplicate.kept_row_id, Place(duplicate.kept_source, duplicate.kept_line)
    return stays, (duplicate.row_id, Place(duplicate.source, duplicate.line))


class Side(NamedTuple):
    """What was read of one side."""

    rows: int
    sources: Counter[str]
    """Rows by the digest of their file."""
    sample: list[Row]
    """Every row, or 2,000 of them at equal distances, the first and the last among them."""


def lines(path: Path, kind: type[T]) -> Iterator[T]:
    """Yield what a file of JSON lines holds of `kind`; its other fields are passed over."""
    decoder = msgspec.json.Decoder(kind)
    with path.open("rb") as file:
        for line in file:
            yield decoder.decode(line)


def read_side(path: Path, side: str, tally: Tally) -> Side:
    """Count the sources and the answers of a side in one pass, and take its sample along."""
    import pyarrow as pa

    count = segments.count(path)
    wanted, start = _spread(count, SAMPLE), 0
    sources: Counter[str] = Counter()
    sample: list[Row] = []
    for batch in segments.batches(path):
        sources.update(_counted(batch.column("source")))
        for answer, rows in _counted(_last_turns(batch)).items():
            tally.add(side, answer, rows)
        here = [place - start for place in wanted if start <= place < start + batch.num_rows]
        sample += msgspec.convert(batch.take(pa.array(here, pa.int64())).to_pylist(), list[Row])
        start += batch.num_rows
    return Side(count, sources, sample)


def sources_of(path: Path) -> Counter[str]:
    """Count the rows of a file by the digest of the file that they were read from."""
    return _counted(segments.table(path, ["source"]).column("source"))


def rows_at(path: Path, wanted: Sequence[Named]) -> dict[Named, Row]:
    """Find rows by id and place, whatever their order; what is not there is left out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found: dict[Named, Row] = {}
    asked, ids = set(wanted), pa.array(sorted({row_id for row_id, _ in wanted}), pa.string())
    for batch in segments.batches(path) if wanted else ():
        these = batch.filter(pc.is_in(batch.column("row_id"), ids))
        for row in msgspec.convert(these.to_pylist(), list[Row]):
            key = (row.row_id, Place(row.source, row.line))
            if key in asked:
                found.setdefault(key, row)
        if len(found) == len(asked):
            break
    return found


def _last_turns(batch: "pa.RecordBatch") -> "pa.Array":
    """Give what each row's last turn says, which validate has made sure is the answer."""
    import pyarrow as pa

    turns = batch.column("messages")
    ends = turns.offsets[1:].to_numpy() - 1
    texts = turns.values.field("content").take(ends)
    if turns.type.value_type.get_field_index("call") < 0:  # a segment of a night before rows had calls
        return texts
    calls = turns.values.field("call").take(ends)
    if calls.null_count == len(calls):
        return texts
    pairs = zip(texts.to_pylist(), calls.to_pylist(), strict=True)
    return pa.array([Message("assistant", text, call).said for text, call in pairs], pa.string())


def _counted(values: "pa.Array | pa.ChunkedArray") -> Counter[str]:
    return Counter({each["values"]: each["counts"] for each in values.value_counts().to_pylist()})


def _spread(count: int, most: int) -> list[int]:
    """Give up to `most` places among `count`, at equal distances, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(step * (count - 1) / (most - 1)) for step in range(most)]
