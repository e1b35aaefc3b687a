"""Read raw files as rows: one module per format, one table at the foot, and no record lost on the way.

The settings stand in `tunemill.sources.settings`, which reads the table.
"""

import glob
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from tunemill.errors import DataError
from tunemill.rows import PassedOver, Rejected, Row
from tunemill.sources import csv_table, json_array, jsonl
from tunemill.sources.flat_trees import joined
from tunemill.sources.reasons import CutShort, Fault
from tunemill.sources.records import Converter
from tunemill.sources.streams import PACKED, FileCounts, Found, after_bom, chunks
from tunemill.sources.where import PassOver

if TYPE_CHECKING:
    from tunemill.sources.settings import IngestSettings

__all__ = ["FORMATS", "FileCounts", "Format", "detect", "expand", "read"]

_ROTATED = re.compile(r"[.-]\d[\d-]*$")
EXCERPT = 2_000
"""Characters of a rejected record that are kept."""


@dataclass(frozen=True)
class Format:
    """One input format: what reads it, and the endings (before any `.gz` or `.zst`) by which it is known."""

    read: Callable[[Path, "IngestSettings", FileCounts], Iterator[Found]]
    endings: tuple[str, ...]


def read(
    path: Path,
    digest: str,
    settings: "IngestSettings",
    counts: FileCounts | None = None,
    first: int | None = None,
) -> Iterator[Row | Rejected | PassedOver]:
    """Yield exactly one outcome for every record of a file, in its order: a row, rejected, or passed over by a filter.

    A record is a JSONL line that is not blank, an element of a JSON array, or a CSV record after the header; in JSON,
    the messages of a flat conversation tree are one record together, which stands where its root stands. A file that
    cannot be read to its end yields one more rejected record, last, with the line from which all is lost;
    `counts.cut_short` then gives the reason. Bad content never raises.

    Args:
        digest: sha256 of the file, 64 hex digits; the source of every row.
        counts: filled while the file is read.
        first: read only so many records of the file (messages of trees one by one).

    Raises:
        DataError: the format cannot be told, or `ingest.map` names a column that a CSV header does not have.
    """
    counts = counts if counts is not None else FileCounts()
    form = FORMATS[detect(path) if settings.format == "auto" else settings.format]
    converter = Converter(settings, digest, counts)
    try:
        records = form.read(path, settings, counts)
        for found in islice(records, first) if form is FORMATS["csv"] else joined(records, settings, counts, first):
            counts.records += 1
            yield _outcome(converter, digest, found)
    except CutShort as cut:
        counts.cut_short = cut.reason
        counts.records += 1
        yield _rejected(digest, cut.line, cut.raw, cut)


def detect(path: Path) -> str:
    """Tell the format of a file by the ending of its name, and by its first byte where that leaves it open.

    A `.json` file may be an array or JSONL. A name without a known ending is JSON of one of the two kinds, or an error.
    """
    ending = _ending(path)
    named = next((name for name, form in FORMATS.items() if ending in form.endings), None)
    if named and named != "json":
        return named
    first = _first_byte(path)
    if first == b"[":
        return "json"
    if first in (b"{", b"") or named:
        return "jsonl"
    raise DataError(
        f"{path}  cannot tell the format: the ending is `{ending}`, and the first byte is neither `{{` nor `[`\n"
        f"  Set ingest.format to one of {', '.join(FORMATS)}, or leave the file out of ingest.files."
    )


def expand(files: str | Iterable[str], root: Path) -> list[Path]:
    """Give the files that paths, folders and globs stand for, each once, sorted, with symbolic links resolved.

    A folder stands for all files inside it, at any depth, that have a known ending. Temporary and partial files
    (`*.tmp`, `*.part`, a leading dot) are passed over.

    Raises:
        DataError: one of `files` stands for no file.
    """
    found: set[Path] = set()
    for pattern in [files] if isinstance(files, str) else files:
        exact = root / pattern  # before the glob, for names such as `logs[1].csv`
        names = [pattern] if exact.exists() else glob.glob(pattern, root_dir=root, recursive=True)
        places = [root / name for name in names]
        inside = {file.resolve() for place in places for file in _closed_files(place)}
        if not inside:
            raise DataError(
                f"ingest.files: `{pattern}` stands for no file; looked in {root}, matched {len(places)} names\n"
                "  Mend the path. Folders give files with a known ending (plain, .gz or .zst): "
                f"{' '.join(ending for form in FORMATS.values() for ending in form.endings)}; "
                "*.tmp, *.part and names with a leading dot are passed over."
            )
        found |= inside
    return sorted(found)


def _outcome(converter: Converter, digest: str, found: Found) -> Row | Rejected | PassedOver:
    line, raw, fields = found
    if isinstance(fields, Fault):
        return _rejected(digest, line, raw, fields)
    try:
        return converter.row(line, fields)
    except Fault as fault:
        return _rejected(digest, line, raw, fault)
    except PassOver as passed:
        return PassedOver(digest, line, passed.reason, passed.detail)


def _rejected(digest: str, line: int, raw: bytes, fault: Fault) -> Rejected:
    text = raw[: 4 * EXCERPT].decode(errors="replace")[:EXCERPT]  # no character has more than 4 bytes
    return Rejected(digest, line, fault.reason, fault.detail[:EXCERPT], text)


def _ending(path: Path) -> str:
    """Give the ending that names the format: before that of packing, and before the number or date of a rotation."""
    name = path.name.lower()
    name = next((name.removesuffix(end) for end in PACKED if name.endswith(end)), name)
    return Path(_ROTATED.sub("", name)).suffix


def _first_byte(path: Path) -> bytes:
    try:
        start = next(after_bom(chunks(path), FileCounts()))
    except CutShort:  # said with its line when the file is read
        start = b""
    return start.lstrip()[:1]


def _closed_files(place: Path) -> Iterator[Path]:
    if place.is_dir():
        endings = {ending for form in FORMATS.values() for ending in form.endings}
        inside = (file for file in place.rglob("*") if _ending(file) in endings)
        yield from (file for file in inside if file.is_file() and _is_closed(file.relative_to(place)))
    elif place.is_file() and _is_closed(Path(place.name)):
        yield place


def _is_closed(name: Path) -> bool:
    hidden = any(part.startswith(".") for part in name.parts)
    return not hidden and not name.name.lower().endswith((".tmp", ".part"))


FORMATS: dict[str, Format] = {
    "jsonl": Format(jsonl.read, (".jsonl", ".ndjson")),
    "json": Format(json_array.read, (".json",)),
    "csv": Format(csv_table.read, (".csv", ".tsv")),
}
