"""Read CSV whose first record names the columns; the separator is the one of `,` `;` tab `|` that the header uses most.

A separator, a quote and a line end mean what RFC 4180 says, and nothing is guessed: what the strict parser refuses is
rejected.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunemill.errors import DataError
from tunemill.sources.reasons import CutShort, Fault, Reason, listing
from tunemill.sources.streams import FileCounts, Found, after_bom, chunks, lines

if TYPE_CHECKING:
    from tunemill.sources.settings import IngestSettings

SEPARATORS = ",;\t|"


def read(path: Path, settings: "IngestSettings", counts: FileCounts) -> Iterator[Found]:
    """Yield one record for each record after the header, with the physical line where it begins.

    Raises:
        CutShort: a quote is never closed, or a record is too long, so where the next one begins cannot be known.
        DataError: `ingest.map` names a column that the header does not have.
    """
    csv.field_size_limit(max(csv.field_size_limit(), settings.max_line_bytes))  # one number for the whole process
    header: list[str] | Fault | None = None
    for line, raw, values in _records(path, settings.max_line_bytes, counts):
        if header is None:
            header = _header(values)
            if isinstance(header, list) and settings.map:
                _check_columns(f"{path}:{line}", header, settings.map.columns())
        elif isinstance(header, Fault):  # once for each record, so that the loss is counted in full
            yield line, raw, header
        else:
            yield line, raw, _fields(header, values)


def _header(values: list[str] | Fault) -> list[str] | Fault:
    if isinstance(values, Fault):
        return Fault("unreadable header", f"{values.reason}: {values.detail}")
    names = [name.strip() for name in values]
    twice = [name for name, times in Counter(names).items() if name and times > 1]
    return Fault("duplicate column", f"the header names {listing(twice)} more than once") if twice else names


def _check_columns(where: str, header: list[str], columns: dict[str, str]) -> None:
    named = {field: f"{field}: {name}" for field, name in columns.items()}
    missing = [named[field] for field, name in columns.items() if name not in header]
    if missing:
        raise DataError(
            f"{where}  {len(missing)} of {len(columns)} columns that ingest.map names are not in the file: "
            f"{', '.join(missing)}\n"
            f"  columns of the file: {listing(header)}\n"
            f"  ingest.map: {', '.join(named.values())}\n"
            "  Mend ingest.map, or the header of the file; no row of it can be read as it is."
        )


def _fields(header: list[str], values: list[str] | Fault) -> dict[str, Any] | Fault:
    if isinstance(values, Fault):
        return values
    if len(values) != len(header):
        few = len(values) < len(header)
        return Fault(
            "too few columns" if few else "too many columns", f"{len(values)} where the header has {len(header)}"
        )
    return dict(zip(header, values, strict=True))


def _records(path: Path, limit: int, counts: FileCounts) -> Iterator[tuple[int, bytes, list[str] | Fault]]:
    source = _after_blank(lines(after_bom(chunks(path), counts), limit), counts)
    first = next(source, None)
    if first is None:
        return
    feed = _Feed(chain([first], source), limit)
    table = csv.reader(feed, delimiter=_separator(first[1]), strict=True)
    while True:
        feed.begin()
        found: list[str] | Fault
        try:
            found = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            if feed.ended:
                raise feed.cut("unclosed quote", "a quote that opens in this record is never closed") from None
            found = Fault("broken CSV", f"{error}, in lines {feed.line} to {feed.last}")
        if feed.raw.isspace():
            counts.blank_lines += 1
        else:
            yield feed.line, feed.raw.rstrip(b"\r\n"), feed.fault or found


def _after_blank(source: Iterator[tuple[int, bytes]], counts: FileCounts) -> Iterator[tuple[int, bytes]]:
    """Pass over the blank lines before the header."""
    for number, raw in source:
        if raw and not raw.isspace():
            yield number, raw
            break
        counts.blank_lines += 1
    yield from source


def _separator(header: bytes) -> str:
    bare = re.sub(rb'"[^"]*"?', b"", header)
    return max(SEPARATORS, key=lambda separator: bare.count(separator.encode()))


class _Feed:
    """Hand physical lines to the CSV parser, and remember those of the record that it is reading."""

    def __init__(self, source: Iterator[tuple[int, bytes]], limit: int) -> None:
        self._source, self._limit = source, limit
        self._held = bytearray()
        self.line = self.last = 0
        """First and last line of the record."""
        self.fault: Fault | None = None
        """What is wrong with the bytes of the record; the parser still sees it, to find where it ends."""
        self.ended = False

    def begin(self) -> None:
        """Forget the record before."""
        self._held.clear()
        self.fault = None

    @property
    def raw(self) -> bytes:
        """The bytes of the record so far."""
        return bytes(self._held)

    def cut(self, reason: Reason, detail: str) -> CutShort:
        """Say that the file cannot be read on, with the lines that are lost as far as they are known."""
        until = f"line {self.last}, the last," if self.ended else "the end of the file"
        return CutShort(reason, f"{detail}; all from line {self.line} to {until} is lost", self.line, self.raw)

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        try:
            self.last, raw = next(self._source)
        except StopIteration:
            self.ended = True
            raise
        except CutShort as cut:
            if self._held:
                cut.line, cut.raw = self.line, self.raw + cut.raw
            raise
        return self._decoded(raw) + "\n"

    def _decoded(self, raw: bytes) -> str:
        self.line = self.line if self._held else self.last
        self._held += raw + b"\n"
        if len(self._held) > self._limit + 1:
            raise self.cut("too long", f"a record of more than {self._limit:,} bytes; see ingest.max_line_bytes")
        if b"\0" in raw:
            self.fault = self.fault or Fault("NUL character", f"at byte {raw.index(0) + 1} of line {self.last}")
        try:
            return raw.decode()
        except UnicodeDecodeError as bad:
            where = f"0x{raw[bad.start]:02x} at byte {bad.start + 1} of line {self.last}"
            self.fault = self.fault or Fault("invalid UTF-8", where)
            return raw.decode(errors="replace")
