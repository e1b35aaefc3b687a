"""Turn a file into pieces of bounded size: chunks, and lines that end at a line feed and nothing else.

`str.splitlines` and text mode would also break at U+2028, form feeds and lone carriage returns, which stand inside
real texts.
"""

import gzip
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from tunemill.sources.reasons import CutShort, Fault

CHUNK = 1 << 20
"""Bytes read at a time."""
BOMB_FREE = 1 << 20
"""Bytes that any gzip file may unpack to."""
BOMB_RATIO = 100
"""Unpacked bytes per packed byte after those; logs of one repeated line reach a few dozen, a bomb about 1,000."""
BOM = b"\xef\xbb\xbf"

Found = tuple[int, bytes, dict[str, Any] | Fault]
"""Line where a record begins, its bytes, and its fields or what is wrong with it."""


@dataclass
class FileCounts:
    """Count what the reading of one file passed over or mended, so that none of it is silent."""

    records: int = 0
    """Records that the file was cut into, whatever became of each; a file cut short counts one more."""
    boms: int = 0
    """Byte order marks taken off."""
    blank_lines: int = 0
    """Lines without a visible character; they are no records."""
    ids_passed_over: int = 0
    """Conversation, user or time keys whose value is neither a string nor a number that can be one."""
    cut_short: str = ""
    """Why the file could not be read to its end, "" where it was."""


def chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, unpacked where they begin with the mark of gzip, whatever the name says.

    Raises:
        CutShort: the packed data end early, are damaged, or unpack to more than 100 times their size.
    """
    with path.open("rb") as file:
        if file.peek(2).startswith(b"\x1f\x8b"):
            yield from _unpacked(file)
        else:
            while chunk := file.read(CHUNK):
                yield chunk


def after_bom(source: Iterator[bytes], counts: FileCounts) -> Iterator[bytes]:
    """Take off the byte order mark at the start of a file, wherever the first pieces were cut."""
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= len(BOM):
            break
    counts.boms += head.startswith(BOM)
    yield head.removeprefix(BOM)
    yield from source


def lines(source: Iterable[bytes], limit: int) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its number, counted from 1, without its line feed.

    A line longer than `limit` bytes is never held whole: it comes as its first `limit` + 1 bytes, by which it is known.
    """
    number, tail = 0, b""
    try:
        for chunk in source:
            *whole, tail = (tail + chunk).split(b"\n")
            for raw in whole:
                number += 1
                yield number, raw[: limit + 1]
            tail = tail[: limit + 1]
    except CutShort as cut:
        cut.line, cut.raw = number + 1, tail
        raise
    if tail:
        yield number + 1, tail


def _unpacked(file: BufferedReader) -> Iterator[bytes]:
    packed, size, held = gzip.GzipFile(fileobj=file), 0, bytearray()
    cut: CutShort | None = None
    more = True
    while more:
        try:
            piece = packed.read1(
                CHUNK
            )  # at most what one read of packed bytes gives, so damage costs nothing before it
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            piece = b""
            cut = CutShort("broken gzip", f"{error}, after {size:,} unpacked bytes; the rest is lost")
        size += len(piece)
        if size > BOMB_FREE and size > BOMB_RATIO * file.tell():
            detail = f"{file.tell():,} packed bytes made more than {size:,}, over {BOMB_RATIO} to 1; the rest is lost"
            cut = CutShort("gzip bomb", detail)
        held += piece
        more = bool(piece) and cut is None
        if len(held) >= CHUNK or not more:
            yield bytes(held)
            held.clear()
    if cut:
        raise cut
