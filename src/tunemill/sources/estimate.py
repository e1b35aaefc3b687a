"""Guess how many rows and characters raw files hold from their first records, where a plan must not read them all."""

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunemill.errors import DataError
from tunemill.rows import Row
from tunemill.sources import FORMATS, detect
from tunemill.sources.flat_trees import joined
from tunemill.sources.reasons import CutShort, Fault
from tunemill.sources.records import Converter
from tunemill.sources.streams import FileCounts, Found, is_packed
from tunemill.sources.where import PassOver

if TYPE_CHECKING:
    from tunemill.sources.settings import IngestSettings

PACKED = 1 << 22
"""Bytes by which the ratio of packing is told."""
SAMPLE = 200
"""Records of a file that are read; one with fewer is counted exactly."""
CHARACTERS_PER_TOKEN = 4
"""Of English under the tokenizers of today's models, roughly."""
TOKENS_PER_TURN = 4
"""What a chat template writes around each turn: ChatML's start, role, line break and end."""


@dataclass
class Estimate:
    """What files may hold; `exact` where every record was read."""

    records: int = 0
    rows: int = 0
    turns: int = 0
    characters: int = 0
    exact: bool = True

    @property
    def tokens(self) -> int:
        """Tokens of the conversations, never exact."""
        return self.characters // CHARACTERS_PER_TOKEN + self.turns * TOKENS_PER_TURN


def estimate(files: Iterable[tuple[Path, str]], settings: "IngestSettings") -> Estimate:
    """Read the first records of each (file, digest) and scale them up to the file's size."""
    whole = Estimate()
    for path, digest in files:
        found, scale = _sample(path, digest, settings)
        whole.exact = whole.exact and scale == 1
        whole.records += round(found.records * scale)
        whole.rows += round(found.rows * scale)
        whole.turns += round(found.turns * scale)
        whole.characters += round(found.characters * scale)
    return whole


def _sample(path: Path, digest: str, settings: "IngestSettings") -> tuple[Estimate, float]:
    counts, found, seen, read, more = FileCounts(), Estimate(), bytearray(), 0, False
    converter = Converter(settings, digest, counts)
    form = FORMATS[detect(path) if settings.format == "auto" else settings.format]

    def first() -> Iterator[Found]:
        nonlocal read, seen, more
        for number, one in enumerate(form.read(path, settings, counts)):
            if number == SAMPLE:
                more = True
                return
            read += len(one[1]) + 1
            seen += (one[1] + b"\n")[: max(0, PACKED - len(seen))]
            yield one

    try:
        for line, _, fields in first() if form is FORMATS["csv"] else joined(first(), settings, counts):
            found.records += 1
            if row := _row(converter, line, fields):
                found.rows += 1
                found.turns += len(row.messages)
                found.characters += sum(len(message.said) for message in row.messages)
    except (CutShort, DataError):  # said with its line by the run
        more = False
    if not more:
        return found, 1
    with path.open("rb") as file:
        packed = is_packed(file.read(4))
    size = read * len(zlib.compress(bytes(seen))) / len(seen) if packed else read
    return found, max(1.0, path.stat().st_size / size)


def _row(converter: Converter, line: int, fields: object) -> Row | None:
    try:
        return converter.row(line, fields) if not isinstance(fields, Fault) else None  # type: ignore[arg-type]
    except (Fault, PassOver):
        return None
