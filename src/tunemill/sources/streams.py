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
from typing import Any, Literal

from tunemill.sources.reasons import CutShort, Fault, Reason

CHUNK = 1 << 20
"""Bytes read at a time."""
PACKED = (".gz", ".zst")
"""Endings of packed files; what is packed is known by its first bytes."""
BOMB_FREE = 1 << 20
"""Bytes that any packed file may unpack to."""
GZIP_RATIO = 500
"""Unpacked bytes per packed byte after those: real logs with one 75 kB prompt reached 110, blanks reach 1,029."""
ZSTANDARD_RATIO = 5_000
"""The same for zstandard: those logs reached 1,043, blanks 32,692."""
WINDOW = 1 << 27
"""Bytes of memory that unpacking zstandard may ask for; `zstd --ultra --long` stays within it up to `--long=27`."""
PIECE = 1 << 10
"""Packed bytes given to zstandard at a time, which makes at most 32 MiB of them."""
GZIP, ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BOM = b"\xef\xbb\xbf"

Packing = Literal["gzip", "zstandard"]
_BROKEN: dict[Packing, Reason] = {"gzip": "broken gzip", "zstandard": "broken zstandard"}
_BOMB: dict[Packing, Reason] = {"gzip": "gzip bomb", "zstandard": "zstandard bomb"}

Found = tuple[int, bytes, dict[str, Any] | Fault]
"""Line where a record begins, its bytes, and its fields or what is wrong with it."""


@dataclass
class FileCounts:
    """Count what the reading of one file passed over or mended, so that none of it is silent."""

    records: int = 0
    """Records that the file was cut into, whatever became of each; a file cut short counts one more."""
    joined: int = 0
    """Messages that went into the record of a flat conversation tree, its root not counted."""
    boms: int = 0
    """Byte order marks taken off."""
    blank_lines: int = 0
    """Lines without a visible character; they are no records."""
    ids_passed_over: int = 0
    """Conversation, user or time keys whose value is neither a string nor a number that can be one."""
    other_answers: int = 0
    """Answers beside the one of a row: further choices of a response, replies off the best path of a tree."""
    feedback_unread: int = 0
    """Records with a feedback key whose value is neither up nor down."""
    cut_short: str = ""
    """Why the file could not be read to its end, "" where it was."""


def chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file, unpacked where they begin with the mark of gzip or zstandard, whatever the name says.

    Raises:
        CutShort: the packed data end early, are damaged, or unpack to more bytes than real logs do.
    """
    with path.open("rb") as file:
        start = file.peek(4)[:4]
        if is_packed(start):
            yield from _gunzipped(file) if start.startswith(GZIP) else _unzstandard(file)
        else:
            while chunk := file.read(CHUNK):
                yield chunk


def is_packed(start: bytes) -> bool:
    """Tell by its first 4 bytes whether a file is packed; zstandard may begin with a frame that is to be skipped."""
    skipped = start[1:4] == b"\x2a\x4d\x18" and 0x50 <= start[0] <= 0x5F
    return skipped or start.startswith((GZIP, ZSTANDARD))


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


def _gunzipped(file: BufferedReader) -> Iterator[bytes]:
    packed = gzip.GzipFile(fileobj=file)

    def pieces() -> Iterator[bytes]:  # each at most what one read of packed bytes gives: damage costs nothing before it
        while piece := packed.read1(CHUNK):
            yield piece

    yield from _held(pieces(), file, "gzip", GZIP_RATIO, (EOFError, zlib.error, gzip.BadGzipFile))


def _unzstandard(file: BufferedReader) -> Iterator[bytes]:
    """Unpack frame after frame: the library's own reader ends without a word where a frame is cut."""
    import zstandard

    def pieces() -> Iterator[bytes]:
        frame, begun = None, False
        while packed := file.read(PIECE):
            while packed:
                frame = frame or zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
                yield frame.decompress(packed)
                packed, begun = (frame.unused_data, False) if frame.eof else (b"", True)
                frame = None if frame.eof else frame
        if begun:
            raise EOFError("the last frame ends early")

    yield from _held(pieces(), file, "zstandard", ZSTANDARD_RATIO, (EOFError, zstandard.ZstdError))


def _held(
    pieces: Iterator[bytes], file: BufferedReader, name: Packing, ratio: int, broken: tuple[type[Exception], ...]
) -> Iterator[bytes]:
    """Yield pieces as chunks; what was unpacked before the damage comes before it is said."""
    size, held = 0, bytearray()
    cut: CutShort | None = None
    more = True
    while more:
        try:
            piece = next(pieces, None)
        except broken as error:
            piece = None
            cut = CutShort(_BROKEN[name], f"{error}, after {size:,} unpacked bytes; the rest is lost")
        if piece:
            size += len(piece)
            held += piece
        if size > BOMB_FREE and size > ratio * file.tell():
            detail = f"{file.tell():,} packed bytes made more than {size:,}, over {ratio:,} to 1; the rest is lost"
            cut = CutShort(_BOMB[name], detail)
        more = piece is not None and cut is None
        if len(held) >= CHUNK or not more:
            yield bytes(held)
            held.clear()
    if cut:
        raise cut
