"""Replay, its sources: find the file that a rejected record came from, what stands there now, and a CSV's header."""

import functools
import tempfile
from collections.abc import Container, Iterator
from itertools import islice
from pathlib import Path

import orjson

from tasks.trace_names import Names
from tunemill.files import FileDigests
from tunemill.home import Home
from tunemill.rows import PassedOver, Rejected, Row
from tunemill.sources import FORMATS, detect, read
from tunemill.sources.reasons import CutShort, Fault
from tunemill.sources.settings import IngestSettings
from tunemill.sources.streams import FileCounts, after_bom, chunks, lines


class Source:
    """A file that was read once, at a place where it still has the same bytes; `path` is None where none has."""

    def __init__(self, path: Path | None, digest: str, wanted: set[int], settings: IngestSettings) -> None:
        self.path = path
        self._settings = settings
        self._there = _records(path, digest, wanted, settings) if path else {}

    def at(self, line: int) -> list[Row | Rejected]:
        """Give what the readers make, now, of each record that begins in a line."""
        return self._there.get(line, [])

    @property
    def is_csv(self) -> bool:
        """Whether a record's text needs the header of the file to be understood."""
        form = self._settings.format
        return self.path is not None and (detect(self.path) if form == "auto" else form) == "csv"

    def csv_fields(self, text: str) -> dict[str, object] | Fault:
        """Read the text of one CSV record under the header of this file."""
        assert self.path
        bare = self._settings.model_copy(update={"map": None})
        with tempfile.TemporaryDirectory(dir=_scratch()) as folder:
            table = Path(folder) / "record.csv"
            table.write_bytes(self._header + b"\n" + text.encode() + b"\n")
            try:
                found = list(islice(FORMATS["csv"].read(table, bare, FileCounts()), 2))
            except CutShort as cut:
                return Fault(cut.reason, cut.detail.partition(";")[0])
        if len(found) != 1:
            return Fault("broken CSV", f"the text holds {'no record' if not found else 'more than one record'}")
        return found[0][2]

    @functools.cached_property
    def _header(self) -> bytes:
        """The bytes of the header, with line breaks where a quoted name has some."""
        assert self.path
        held = b""
        for _, raw in lines(after_bom(chunks(self.path), FileCounts()), self._settings.max_line_bytes):
            held += raw + b"\n"
            if held.strip() and held.count(b'"') % 2 == 0:
                break
        return held.strip(b"\r\n")


def find(digest: str, names: Names, asked: Container[Path], wanted: set[int], settings: IngestSettings) -> Source:
    """Find a source file by any name that it ever had here, best one of those asked for.

    It is read as far as its last wanted line.
    """
    digests = FileDigests(Home.find().root / "digests.json")
    places = sorted(
        (Path(name) for name in reversed(names.table.get(digest, []))), key=lambda place: place not in asked
    )
    path = next((place for place in places if place.is_file() and digests(place) == digest), None)
    digests.save()
    return Source(path, digest, wanted, settings)


def text_of(outcome: Row | Rejected) -> str:
    """Write a record as the stage that rejected it lists it, not cut if it is a row."""
    if isinstance(outcome, Rejected):
        return outcome.text
    return orjson.dumps(outcome.record).decode()


def check(records: list[bytes], settings: IngestSettings) -> Iterator[list[Row | Rejected]]:
    """Give, for each JSON line, what a run would make of it; rows have the number of the line, from 1."""
    with tempfile.TemporaryDirectory(dir=_scratch()) as folder:
        path = Path(folder) / "records.jsonl"
        path.write_bytes(b"".join(record + b"\n" for record in records))
        found: dict[int, list[Row | Rejected]] = {}
        for outcome in read(path, "replayed", settings.model_copy(update={"format": "jsonl", "where": None})):
            if not isinstance(outcome, PassedOver):  # none is, without `where`
                found.setdefault(outcome.line, []).append(outcome)
    for number in range(1, len(records) + 1):
        yield found.get(number, [])


def _records(path: Path, digest: str, wanted: set[int], settings: IngestSettings) -> dict[int, list[Row | Rejected]]:
    there: dict[int, list[Row | Rejected]] = {}
    last = max(wanted, default=0)
    for outcome in read(path, digest, settings.model_copy(update={"where": None})):
        if outcome.line > last:
            break
        if outcome.line in wanted and not isinstance(outcome, PassedOver):
            there.setdefault(outcome.line, []).append(outcome)
    return there


def _scratch() -> Path:
    folder = Home.find().root / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
