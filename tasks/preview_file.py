"""Preview a file: its encoding, the shapes, keys, ids and times of its first records, and what becomes of each."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from tasks.suggest_map import suggest, unknown_columns
from tunemill.errors import DataError
from tunemill.rows import PassedOver, Rejected, Row
from tunemill.sources import FORMATS, detect, read
from tunemill.sources.estimate import estimate
from tunemill.sources.flat_trees import is_message
from tunemill.sources.reasons import CutShort
from tunemill.sources.records import KNOWN_KEYS
from tunemill.sources.settings import ColumnMap, IngestSettings
from tunemill.sources.shapes import known_keys
from tunemill.sources.streams import FileCounts, chunks

Record = dict[str, Any]

PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
"""First bytes of packed files; which of them are read is the readers' business."""
MARKS = {b"\xef\xbb\xbf": "UTF-8 with byte order mark", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
BYTES = 32 << 20
"""Bytes of records after which no more are read of a file, be they few."""
MAPPED = "columns of ingest.map"
STRANGE = "no known shape"
TREE = "messages of a flat tree"


class Known(msgspec.Struct):
    """Where conversation, user or time was found."""

    key: str
    records: int
    """Records that have it."""
    example: str


class FileFacts(msgspec.Struct):
    """What is known of one file from its first records."""

    file: str
    bytes: int
    format: str = ""
    """Name of the reader, "" where none fits."""
    packed: str = ""
    encoding: str = "UTF-8"
    line_ends: str = "LF"
    read: int = 0
    """Records that were read."""
    whole: bool = False
    """Whether they are all of the file's."""
    shapes: dict[str, int] = {}
    keys: dict[str, int] = {}
    """Key or column → records that have it."""
    known: dict[str, Known] = {}
    """conversation, user and time, where they were found."""
    suggested: dict[str, str] = {}
    """A map for columns that are not known; field of `ingest.map` → column."""
    assumed: bool = False
    """Whether the rows were read with that map, since no configuration gave one."""
    records: int = 0
    rows: int = 0
    tokens: int = 0
    """What the whole file may hold; tokens by rule of thumb."""
    stops: str = ""
    """Why a run would stop at this file, "" where it would not."""


def look(
    path: Path, name: str, settings: IngestSettings, most: int, guess: bool
) -> tuple[FileFacts, list[Row | Rejected]]:
    """Read the first records of a file: what they hold, and what the reader makes of each; their source is `name`.

    Args:
        most: records to read.
        guess: take the suggested map as if it stood in the configuration, where that has none.
    """
    facts = FileFacts(name, path.stat().st_size)
    _encoding(path, facts)
    try:
        facts.format = detect(path) if settings.format == "auto" else settings.format
    except DataError as error:
        facts.stops = str(error)
        return facts, []
    records = _records(path, settings, facts, most)
    _shapes(records, settings, facts)
    whole = "prompt" in facts.suggested and "answer" in facts.suggested
    if guess and whole and settings.map is None:
        facts.assumed = True
        settings = settings.model_copy(update={"map": ColumnMap(**facts.suggested)})
    found = _outcomes(path, settings, facts)
    guessed = estimate([(path, name)], settings)
    facts.records, facts.rows, facts.tokens = guessed.records, guessed.rows, guessed.tokens
    return facts, found


def _encoding(path: Path, facts: FileFacts) -> None:
    with path.open("rb") as file:
        head = file.read(6)
    facts.packed = next((name for mark, name in PACKED.items() if head.startswith(mark)), "")
    try:
        chunk = next(chunks(path), b"")
    except CutShort:  # said with its line by the reader
        chunk = b""
    facts.encoding = next((name for mark, name in MARKS.items() if chunk.startswith(mark)), "UTF-8")
    facts.line_ends = "CRLF" if b"\r\n" in chunk else "LF"


def _records(path: Path, settings: IngestSettings, facts: FileFacts, most: int) -> list[Record]:
    """Read the fields of the first records, whatever a map says of them."""
    bare, records, size = settings.model_copy(update={"map": None}), list[Record](), 0
    reader = FORMATS[facts.format].read(path, bare, FileCounts())
    try:
        for _, raw, fields in islice(reader, most):
            facts.read += 1
            if isinstance(fields, dict):
                records.append(fields)
            if (size := size + len(raw)) > BYTES:
                break
        facts.whole = next(reader, None) is None
    except CutShort:
        facts.read += 1
        facts.whole = True
    return records


def _shapes(records: Sequence[Record], settings: IngestSettings, facts: FileFacts) -> None:
    columns = settings.map.columns() if settings.map else {}
    flat = facts.format != "csv" and any(is_message(record, settings) for record in records)
    facts.shapes = dict(Counter(_shape(record, columns, flat) for record in records).most_common())
    facts.keys = dict(Counter(key for record in records for key in record))
    for field, keys in KNOWN_KEYS.items():
        named = [columns[field]] if field in columns else []
        for key in named if named and MAPPED in facts.shapes else [*named, *keys]:
            held = [str(record[key]) for record in records if record.get(key) not in (None, "")]
            if held:
                facts.known[field] = Known(key, len(held), held[0][:60])
                break
    if MAPPED not in facts.shapes and not flat:
        facts.suggested = suggest(unknown_columns(records))


def _shape(record: Record, columns: dict[str, str], flat: bool) -> str:
    if "prompt" in columns and columns["prompt"] in record and columns["answer"] in record:
        return MAPPED
    if keys := known_keys(record):
        return " + ".join(keys)
    return TREE if flat and "message_id" in record and "role" in record else STRANGE


def _outcomes(path: Path, settings: IngestSettings, facts: FileFacts) -> list[Row | Rejected]:
    found: list[Row | Rejected] = []
    counts = FileCounts()
    reader = read(path, facts.file, settings, counts, facts.read)
    try:
        found += (outcome for outcome in reader if not isinstance(outcome, PassedOver))
    except DataError as error:
        facts.stops, facts.whole = str(error), False
    return found
