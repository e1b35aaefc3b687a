"""Read a file that is one JSON array, element by element, so that one bad element costs only itself.

Only brackets and strings are followed to find where an element ends; what is between them goes to the strict parser.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tunemill.sources import strict_json
from tunemill.sources.reasons import CutShort, Fault
from tunemill.sources.streams import FileCounts, Found, after_bom, chunks

if TYPE_CHECKING:
    from tunemill.sources.settings import IngestSettings

_BLANK = re.compile(rb"[ \t\r\n]*+")
# Everything up to the next bracket (or comma), whole strings included; it stops at the quote of an unfinished string.
_NESTED = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_FLAT = re.compile(rb'(?:[^"\[\]{},]++|"(?:[^"\\]++|\\.)*+")*+', re.DOTALL)
_CLOSING = {ord("["): ord("]"), ord("{"): ord("}")}


def read(path: Path, settings: "IngestSettings", counts: FileCounts) -> Iterator[Found]:
    """Yield one record for each element of the array; its length counts up to the comma or bracket after it.

    Raises:
        CutShort: the file is no array, its brackets do not match, it ends inside the array or goes on after it.
    """
    limit = settings.max_line_bytes
    for line, raw in _elements(path, limit, counts):
        if len(raw) > limit:
            yield line, raw, Fault("too long", f"more than {limit:,} bytes; see ingest.max_line_bytes")
        else:
            raw = raw.rstrip(b" \t\r\n")
            yield line, raw, strict_json.parse(raw)


def _elements(path: Path, limit: int, counts: FileCounts) -> Iterator[tuple[int, bytes]]:
    array = _Array(limit)
    try:
        for chunk in after_bom(chunks(path), counts):
            yield from array.feed(chunk)
    except CutShort as cut:
        cut.line, cut.raw = array.pending()
        raise
    array.close()


class _Array:
    """Cut the text of an array into its elements, holding at most one chunk and one element of `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = b""
        self._start = 0
        """Where the element that is not complete begins in the buffer."""
        self._at = 0
        """How far the buffer has been followed."""
        self._line = 1
        """Line of the byte at `_start`."""
        self._long: tuple[int, bytes] | None = None
        """Line and first bytes of an element that is too long to be held."""
        self._due = bytearray()
        """The brackets that must still close, the array's own first."""
        self._state = "before"
        self._empty = True

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Take in more bytes; yield (line, element) for every element that they complete."""
        self._buffer += chunk
        while (bracket := self._next_bracket()) is not None:
            end = self._at - 1
            if self._state != "inside":
                self._enter(bracket)
            elif bracket in _CLOSING:
                self._due.append(_CLOSING[bracket])
                if len(self._due) > self._limit:
                    raise self._broken(f"more than {self._limit:,} brackets are open")
            elif bracket == ord(","):
                yield self._element(end)
            elif bracket != self._due.pop():
                raise self._broken(f"`{chr(bracket)}` closes what it did not open")
            elif not self._due:
                self._state = "after"
                if not self._empty or self._buffer[self._start : end].strip() or self._long:
                    yield self._element(end)
                self._start = self._at
        self._shrink()

    def close(self) -> None:
        """Check that the array was the whole of the file."""
        line, rest = self.pending()
        if self._state == "inside":
            raise self._broken("the file ends before the array is closed")
        if rest:
            where = "where `[` should stand" if self._state == "before" else "after the end of the array"
            raise CutShort("broken JSON array", f"`{chr(rest[0])}` stands {where}; the rest is lost", line, rest)

    def pending(self) -> tuple[int, bytes]:
        """Give the line and the bytes, as far as they are held, of what is not complete."""
        self._skip_blank()
        return self._long or (self._line, self._buffer[self._start :])

    def _next_bracket(self) -> int | None:
        """Follow the buffer past the next bracket, or comma between elements; None where more bytes are needed."""
        pattern = _NESTED if len(self._due) > 1 else _FLAT
        match = pattern.match(self._buffer, self._at)
        self._at = match.end() if match else self._at
        if self._at == len(self._buffer) or self._buffer[self._at] == ord('"'):
            return None
        self._at += 1
        return self._buffer[self._at - 1]

    def _enter(self, bracket: int) -> None:
        self._skip_blank()
        if self._state == "after" or bracket != ord("[") or self._start != self._at - 1 or self._long:
            self.close()
        self._state, self._start = "inside", self._at
        self._due.append(_CLOSING[bracket])

    def _element(self, end: int) -> tuple[int, bytes]:
        self._skip_blank()
        found = self._long or (self._line, self._buffer[self._start : min(end, self._start + self._limit + 1)])
        self._line += self._buffer.count(b"\n", self._start, end)
        self._start, self._long, self._empty = end + 1, None, False
        return found

    def _skip_blank(self) -> None:
        match = _BLANK.match(self._buffer, self._start)
        if match and not self._long:
            self._line += self._buffer.count(b"\n", self._start, match.end())
            self._start = match.end()
            self._at = max(self._at, self._start)

    def _shrink(self) -> None:
        """Drop the bytes that are done with; of an element that is too long keep only where the following stands."""
        self._skip_blank()
        if len(self._buffer) - self._start <= self._limit and not self._long:
            self._buffer, self._at = self._buffer[self._start :], self._at - self._start
        else:
            self._long = self._long or (self._line, self._buffer[self._start : self._start + self._limit + 1])
            rest = self._buffer[self._at :]  # empty, or an unfinished string from its quote on
            if len(rest) > self._limit:
                backslashes = len(rest) - len(rest.rstrip(b"\\"))
                rest = b'"' + b"\\" * (backslashes % 2)
            self._line += self._buffer.count(b"\n", self._start) - rest.count(b"\n")
            self._buffer, self._at = rest, 0
        self._start = 0

    def _broken(self, what: str) -> CutShort:
        line, raw = self.pending()
        return CutShort("broken JSON array", f"{what}; what begins here and all after it is lost", line, raw)
