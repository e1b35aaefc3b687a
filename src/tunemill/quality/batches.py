"""Put the rows of many small files together, and take large files apart, so that each check has a bounded table."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tunemill.rows import Row


class Batch(NamedTuple):
    """How much is checked at once at most."""

    rows: int
    characters: int
    """Of all turns; the batch ends with the row that reaches it."""


BATCH = Batch(50_000, 32_000_000)
"""A run of Great Expectations takes a second whatever it checks, and some 6 kB of memory a row: 300 MB a batch."""


class Piece(NamedTuple):
    """Rows of one file that are checked at once."""

    file: str
    rows: Sequence[Row]
    ends: bool
    """Whether the file ends with them."""


def batches(files: Iterable[tuple[str, Sequence[Row]]], most: Batch) -> Iterator[list[Piece]]:
    """Yield the pieces of the files in their order; a file without rows has one piece without any."""
    batch: list[Piece] = []
    room, characters = most
    for file, rows in files:
        start = 0
        for stop, row in enumerate(rows, 1):
            room -= 1
            characters -= sum(len(message.content) + len(message.call or "") for message in row.messages)
            if room <= 0 or characters <= 0:
                yield [*batch, Piece(file, rows[start:stop], stop == len(rows))]
                batch, start, (room, characters) = [], stop, most
        if start < len(rows) or not rows:
            batch.append(Piece(file, rows[start:], True))
    if batch:
        yield batch
