"""Keep what one batch of rows adds to a duplicate index: a folder of arrays, written once and opened by memory map.

    segment.json   what stands here: first row and text, parameters, size and checksum of every file, digest
    texts.npy      distinct normalised texts end to end in UTF-8 · offsets · sizes (distinct shingles) · sketches
    bands.npy      (bands, texts of a shingle or more): MinHash key above the text's number, sorted
    exact.npy      hash of the whole text above its number, sorted
    text.npy       the text of each row, by its number over all segments · rank (of its place) · time · source · line
    table.npy      where the row itself stands: number of its table · at (position there)
    prompt.npy     hash of each row's normalised prompt, 0 where no user says anything · answer
    links.npy      pairs of texts, by their numbers over all segments, that connect what is alike · strength

Numbers of rows and texts run on from segment to segment, and a segment knows the digest of the one before it.
"""

import functools
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import orjson

from tunemill.artifacts import digest_of
from tunemill.errors import ArtifactDamaged, StoreError

HEADER = "segment.json"
FORMAT = 2
"""Raised when the arrays change their meaning."""
ARRAYS = (
    *("texts", "offsets", "sizes", "sketches", "bands", "exact"),
    *("text", "rank", "time", "source", "line", "row_id", "table", "at", "prompt", "answer", "links", "strength"),
)
CHUNK = 1 << 24
LARGER = 4
"""A segment is taken into the next one unless it is this many times larger: their number grows with the logarithm."""

Array = npt.NDArray[Any]


class Parameters(msgspec.Struct, frozen=True):
    """What two segments must have in common to be compared."""

    threshold: float
    shingle: int
    bands: int
    """0 where only equal texts are looked for."""
    rows: int
    """MinHash values in a band."""
    seed: int


class Header(msgspec.Struct, frozen=True):
    """What stands in a segment."""

    format: int
    parameters: Parameters
    after: str
    """Digest of the segment before this one, "" for the first."""
    first_row: int
    first_text: int
    rows: int
    texts: int
    longest: int
    """Characters of the longest text."""
    sources: list[str]
    """sha256 of the files that the rows came from, sorted; `source.npy` counts in this list."""
    tables: list[str]
    """Names of the tables that the rows stand in, sorted; `table.npy` counts in this list."""
    files: dict[str, tuple[int, int]]
    """Name → bytes and CRC-32."""

    @property
    def digest(self) -> str:
        """Hash of all of this: 32 hex digits."""
        return digest_of(msgspec.to_builtins(self))


@dataclass(frozen=True)
class Segment:
    """One opened segment; its arrays are mapped, not read."""

    folder: Path
    header: Header

    @functools.cached_property
    def digest(self) -> str:
        """What it holds, and with it what every segment before it holds."""
        return self.header.digest

    @functools.cached_property
    def arrays(self) -> dict[str, Array]:
        """Every array by its name, read-only."""
        return {name: _mapped(self.folder / f"{name}.npy") for name in ARRAYS}

    @property
    def compared(self) -> tuple[Array, Array, Array, Array]:
        """What the kernels need of the texts: (blob, offsets, sizes, sketches)."""
        return self.arrays["texts"], self.arrays["offsets"], self.arrays["sizes"], self.arrays["sketches"]

    def text(self, number: int) -> str:
        """Read one normalised text by its number over all segments."""
        start, end = self.arrays["offsets"][number - self.header.first_text :][:2]
        return self.arrays["texts"][start:end].tobytes().decode("utf-8", "surrogatepass")


def open_segments(folders: Iterable[Path], *, check: bool = True) -> list[Segment]:
    """Open the segments of one index, oldest first; with `check` every byte is compared with its checksum.

    Raises:
        ArtifactDamaged: a file is missing, or holds other bytes than were written.
        StoreError: a segment does not follow the one before it.
    """
    opened: list[Segment] = []
    for folder in folders:
        segment = Segment(folder, _header(folder))
        for name, (size, crc) in segment.header.files.items():
            _check(folder, name, size, crc if check else None)
        rows, texts, after = follows(opened)
        header = segment.header
        if (header.first_row, header.first_text, header.after) != (rows, texts, after):
            before = opened[-1].folder if opened else "nothing"
            raise StoreError(
                f"{folder}: begins at row {header.first_row:,} after segment {header.after[:12] or '(none)'}, but "
                f"{before} ends at row {rows:,} as {after[:12] or '(none)'}; make the index again from its rows"
            )
        opened.append(segment)
    return opened


def follows(segments: Sequence[Segment]) -> tuple[int, int, str]:
    """Give the first row, the first text and the `after` of the segment that comes next."""
    if not segments:
        return 0, 0, ""
    last = segments[-1].header
    return last.first_row + last.rows, last.first_text + last.texts, segments[-1].digest


def write_segment(
    folder: Path,
    earlier: Sequence[Segment],
    parameters: Parameters,
    names: tuple[list[str], list[str]],
    arrays: Mapping[str, Array],
) -> Segment:
    """Write the arrays of a segment, its header last, and open it; equal arrays give equal bytes and digests."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"{name}.npy": _save(folder / f"{name}.npy", arrays[name]) for name in ARRAYS}
    first_row, first_text, after = follows(earlier)
    header = Header(
        format=FORMAT,
        parameters=parameters,
        after=after,
        first_row=first_row,
        first_text=first_text,
        rows=arrays["text"].size,
        texts=arrays["sizes"].size,
        longest=int(np.diff(arrays["offsets"]).max(initial=0)),
        sources=names[0],
        tables=names[1],
        files=files,
    )
    (folder / HEADER).write_bytes(orjson.dumps(msgspec.to_builtins(header), option=orjson.OPT_INDENT_2))
    return Segment(folder, header)


def to_compact(sizes: Sequence[int], more: int) -> int:
    """Tell how many of the last segments should become one with a new one of `more` rows, by their rows."""
    count = 0
    while count < len(sizes) and sizes[-1 - count] < LARGER * more:
        more += sizes[-1 - count]
        count += 1
    return count


def compact(segments: Sequence[Segment], last: int, folder: Path) -> Segment:
    """Write the last segments of an index as one that takes their place; theirs are left as they are.

    Every row and text keeps its number, and every label stays.
    """
    kept, merged = segments[: len(segments) - last], segments[len(segments) - last :]
    starts = [segment.header.first_text - merged[0].header.first_text for segment in merged]
    arrays = {
        name: np.concatenate([segment.arrays[name] for segment in merged])
        for name in ARRAYS
        if name not in ("offsets", "bands", "exact", "source", "table", "rank")
    }
    ends = np.cumsum([0] + [int(segment.arrays["offsets"][-1]) for segment in merged])
    shifted = [segment.arrays["offsets"][1:] + end for segment, end in zip(merged, ends, strict=False)]
    arrays["offsets"] = np.concatenate([np.zeros(1, np.int64), *shifted])
    for name in ("bands", "exact"):
        parts = [s.arrays[name] + np.uint64(start) for s, start in zip(merged, starts, strict=True)]
        arrays[name] = np.sort(np.concatenate(parts, axis=-1), axis=-1)
    arrays["source"], sources = recounted([(s.arrays["source"], s.header.sources) for s in merged])
    arrays["table"], tables = recounted([(s.arrays["table"], s.header.tables) for s in merged])
    arrays["rank"] = ranks(arrays)
    return write_segment(folder, kept, merged[0].header.parameters, (sources, tables), arrays)


def recounted(parts: Sequence[tuple[Array, Sequence[str]]]) -> tuple[Array, list[str]]:
    """Let columns that count in lists of their own count in one sorted list."""
    names = sorted({name for _, own in parts for name in own})
    place = {name: i for i, name in enumerate(names)}
    found = [np.array([place[name] for name in own], np.int32)[column] for column, own in parts]
    return np.concatenate([np.empty(0, np.int32), *found]), names


def ranks(rows: Mapping[str, Array]) -> Array:
    """Number rows by (time, source, line, row_id), the oldest 0; `source` counts in a sorted list."""
    order = np.lexsort((*_words(rows["row_id"]), rows["line"], rows["source"], *_words(rows["time"])))
    rank = np.empty(order.size, np.int64)
    rank[order] = np.arange(order.size)
    return rank


def oldest_first(segments: Sequence[Segment], rows: Array) -> Array:
    """Sort rows, given by their numbers, by their places."""
    order: Array = rows[np.argsort(ages(segments, rows))]
    return order


def ages(segments: Sequence[Segment], rows: Array) -> Array:
    """Number rows of any segments by their places, the oldest of them 0."""
    found = gathered(segments, rows, ("time", "row_id", "line"))
    return ranks({**found, "source": sources_of(segments, rows)[0]}) if rows.size else rows


def gathered(segments: Sequence[Segment], rows: Array, names: Sequence[str]) -> dict[str, Array]:
    """Read some columns of rows that are given by their numbers, in any order."""
    parts = [(at, segment, rows[at] - segment.header.first_row) for segment, at in _by_segment(segments, rows)]
    found: dict[str, Array] = {}
    for name in names:
        columns = [segment.arrays[name][inside] for _, segment, inside in parts]
        found[name] = np.empty(rows.size, np.result_type(*columns) if columns else np.int64)
        for (at, _, _), column in zip(parts, columns, strict=True):
            found[name][at] = column
    return found


def sources_of(segments: Sequence[Segment], rows: Array) -> tuple[Array, list[str]]:
    """Give of rows the file that they were read from, as a number in a sorted list of digests."""
    return _named(segments, rows, "source")


def tables_of(segments: Sequence[Segment], rows: Array) -> tuple[Array, list[str]]:
    """Give of rows the table that they stand in, as a number in a sorted list of names."""
    return _named(segments, rows, "table")


def _named(segments: Sequence[Segment], rows: Array, column: str) -> tuple[Array, list[str]]:
    parts = list(_by_segment(segments, rows))
    lists = [segment.header.sources if column == "source" else segment.header.tables for segment, _ in parts]
    inside = [segment.arrays[column][rows[at] - segment.header.first_row] for segment, at in parts]
    counted, names = recounted(list(zip(inside, lists, strict=True)))
    found = np.empty(rows.size, np.int32)
    found[np.concatenate([np.empty(0, np.int64), *(at for _, at in parts)])] = counted
    return found, names


def _by_segment(segments: Sequence[Segment], rows: Array) -> Iterator[tuple[Segment, Array]]:
    """Tell for each segment in which places of `rows` its own stand; segments without any are left out."""
    if len(segments) == 1 and rows.size:
        yield segments[0], np.arange(rows.size)
        return
    holds = np.searchsorted([segment.header.first_row for segment in segments], rows, side="right") - 1
    for number, segment in enumerate(segments):
        if (at := np.flatnonzero(holds == number)).size:
            yield segment, at


def _words(column: Array) -> list[Array]:
    """Turn byte strings into big-endian words, the least significant first as lexsort wants them.

    Words sort an order of magnitude faster than strings; those that are the same in every row are left out.
    """
    width = -(-column.dtype.itemsize // 8) * 8
    words = np.ascontiguousarray(column.astype(f"S{width}")).view(">u8").reshape(column.size, width // 8)
    found = [words[:, k].astype(np.uint64) for k in range(words.shape[1] - 1, -1, -1)]
    return [word for word in found if word.size and (word != word[0]).any()]


def _mapped(path: Path) -> Array:
    if np.load(path, mmap_mode="r").size == 0:
        empty = np.load(path)
        empty.flags.writeable = False
        return np.asarray(empty)
    return np.asarray(np.load(path, mmap_mode="r"))


def _save(path: Path, array: Array) -> tuple[int, int]:
    np.save(path, array)
    return path.stat().st_size, _crc(path)


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            crc = zlib.crc32(chunk, crc)
    return crc


def _check(folder: Path, name: str, size: int, crc: int | None) -> None:
    path = folder / name
    if not path.is_file():
        raise ArtifactDamaged(folder, name, "the file is missing")
    if (found := path.stat().st_size) != size:
        raise ArtifactDamaged(folder, name, f"{found:,} bytes where {size:,} were written")
    if crc is not None and (found := _crc(path)) != crc:
        raise ArtifactDamaged(folder, name, f"the bytes have CRC-32 {found:08x}, written were {crc:08x}")


def _header(folder: Path) -> Header:
    try:
        header = msgspec.json.decode((folder / HEADER).read_bytes(), type=Header)
    except FileNotFoundError as error:
        raise ArtifactDamaged(folder, HEADER, "the file is missing") from error
    except msgspec.MsgspecError as error:
        raise ArtifactDamaged(folder, HEADER, f"not the header of a segment ({error})") from error
    if header.format != FORMAT:
        raise StoreError(
            f"{folder}: segment format {header.format}, this Tunemill reads {FORMAT}; make the index again"
        )
    return header
