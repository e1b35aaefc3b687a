"""Know again what earlier nights have seen: an index of texts that grows by what is new.

Two texts are linked where they are equal, or share a MinHash band, agree on enough of their sketches and reach the
threshold exactly. Each of these depends on the two texts alone, never on what stands beside them, so the links that a
set of rows has are the same in one batch, in many nights and in any order; a link is left out only where others
connect the two already. Of each cluster, the component of what is linked, the oldest row stays.

A night may bring a row that is older than the one that stayed until then, or that connects two clusters: from then on
the oldest row of all stays. Labels are therefore never stored. `labels(segments)` derives them from the links, and
`labels(segments[:n])` are those that were given after n nights.
"""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tunemill.dedup.components import Ints
from tunemill.dedup.pairs import SEED
from tunemill.dedup.segments import Array, Parameters, Segment, encoded, follows, ranks, write_segment
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.dedup.signatures import SKETCH, bands_for, encode, enough_agreeing, sign
from tunemill.dedup.text import conversation_text, normalise_all
from tunemill.errors import ConfigError
from tunemill.rows import Row

MISS = 1e-3
"""Chance that a pair exactly at the threshold shares no band; at 0.7 that of one at 0.75 is 3e-5, at 0.8 3e-7."""
CHARACTERS = 16_000_000
"""Characters that are signed at once: they take four bytes each for that long."""


def parameters_of(settings: DeduplicateSettings) -> Parameters:
    """Choose bands for a threshold: 38 of 5 values at 0.7."""
    bands, rows = bands_for(settings.threshold, MISS) if settings.near else (0, 0)
    return Parameters(settings.threshold, settings.shingle, bands, rows, SEED)


def grow(
    earlier: Sequence[Segment], rows: Sequence[Row], texts: Sequence[str], settings: DeduplicateSettings, folder: Path
) -> Segment:
    """Write one segment that holds `rows` and their links to each other and to all earlier ones.

    `texts` are the rows' normalised texts, by which they are compared; empty ones are like no other. The order of the
    rows changes no byte: in the segment they stand from old to new. Of the earlier segments only the texts of
    candidates are read, and nothing is written.

    Raises:
        ConfigError: the earlier segments were made with another threshold or shingle.
    """
    parameters = parameters_of(settings)
    if earlier and earlier[-1].header.parameters != parameters:
        held = earlier[-1].header.parameters
        raise ConfigError(
            f"deduplicate: the index was made with threshold {held.threshold}, shingle {held.shingle} and {held.bands} "
            f"bands, asked for are {parameters.threshold}, {parameters.shingle} and {parameters.bands}; begin a new one"
        )
    arrays, sources, order = _places(rows)
    first, distinct = _numbered([texts[i] for i in order])
    blob = _blob(distinct)
    known = _known(earlier, blob)
    fresh = np.flatnonzero(known < 0)
    if fresh.size < known.size:
        distinct = [distinct[i] for i in fresh]
        blob = _blob(distinct)
    base = follows(earlier)[1]
    known[fresh] = base + np.arange(fresh.size)
    arrays |= {"text": known[first], "texts": blob.bytes, "offsets": blob.offsets, "exact": _packed(blob.hashes)}
    arrays |= _signed(distinct, parameters)
    arrays |= _linked(earlier, arrays, parameters)
    return write_segment(folder, earlier, parameters, sources, arrays)


def labels(segments: Sequence[Segment]) -> Ints:
    """Label each row with the number of the row that stays in its place: the oldest of its cluster."""
    from tunemill.dedup import index_kernels as kernels

    parent = _forest(segments)
    kernels.flatten(parent)
    seen = np.full(parent.size, -1, np.int64)
    stays = np.empty(parent.size, np.int64)
    several: list[Ints] = []
    for number, segment in enumerate(segments):
        component = parent[segment.arrays["text"]]
        order = np.argsort(segment.arrays["rank"])
        before = seen >= 0 if number else np.zeros(0, np.bool_)
        first = kernels.first_rows(component, order, number, seen)
        if number:
            again = first[before[component[first]]]
            several.append(np.stack([component[again], again + segment.header.first_row]))
            first = first[~before[component[first]]]
        stays[component[first]] = first + segment.header.first_row
    _settle(segments, stays, several)
    return np.concatenate([np.empty(0, np.int64), *(stays[parent[s.arrays["text"]]] for s in segments)])


def update(
    earlier: Sequence[Segment], rows: Sequence[Row], settings: DeduplicateSettings, folder: Path
) -> list[Segment]:
    """Grow an index by those rows that it does not hold, compared by their conversations; give all its segments.

    The new segment lies in `folder` under its number; where every row is held already, none is written.
    """
    fresh = [row for row, number in zip(rows, numbers(earlier, rows), strict=True) if number < 0]
    if not fresh:
        return list(earlier)
    texts = normalise_all(map(conversation_text, fresh))
    return [*earlier, grow(earlier, fresh, texts, settings, folder / f"{len(earlier):04d}")]


def numbers(segments: Sequence[Segment], rows: Sequence[Row]) -> Ints:
    """Give each row's number in the index by its source, line and id, -1 where it is not held."""
    known: dict[tuple[str, int, bytes], int] = {}
    sources = {row.source for row in rows}
    for segment in segments:
        here = segment.arrays
        wanted = [i for i, source in enumerate(segment.header.sources) if source in sources]
        for at in np.flatnonzero(np.isin(here["source"], wanted)).tolist():
            place = (segment.header.sources[here["source"][at]], int(here["line"][at]), bytes(here["row_id"][at]))
            known[place] = segment.header.first_row + at
    found = (known.get((row.source, row.line, row.row_id.encode()), -1) for row in rows)
    return np.fromiter(found, np.int64, len(rows))


def clusters_of(segments: Sequence[Segment], rows: Sequence[Row]) -> Ints:
    """Label each of `rows`, all of which are held, with the first of them in its cluster."""
    from tunemill.dedup import index_kernels as kernels

    parent = _forest(segments)
    kernels.flatten(parent)
    text = np.concatenate([np.empty(0, np.int64), *(segment.arrays["text"] for segment in segments)])
    _, first, component = np.unique(parent[text[numbers(segments, rows)]], return_index=True, return_inverse=True)
    labelled: Ints = first[component]
    return labelled


def similarities(segments: Sequence[Segment], left: Ints, right: Ints) -> npt.NDArray[np.float64]:
    """Compute the exact Jaccard similarity of pairs of rows, by their numbers; 1 where their texts are equal."""
    from tunemill.dedup import index_kernels as kernels

    shingle = segments[-1].header.parameters.shingle
    scratch = _scratch(segments)
    found = np.ones(left.size)
    for k, (one, other) in enumerate(zip(left, right, strict=True)):
        here, there = (_text_of(segments, int(row)) for row in (one, other))
        if here != there:
            (a, i), (b, j) = here, there
            first, second = a.header.first_text, b.header.first_text
            found[k] = kernels.similarity(a.compared, i - first, i, b.compared, j - second, 0.0, shingle, scratch)
    return found


def segment_of(segments: Sequence[Segment], row: int) -> Segment:
    """Find the segment that holds a row, by its number."""
    return segments[bisect_right([s.header.first_row for s in segments], row) - 1]


def _text_of(segments: Sequence[Segment], row: int) -> tuple[Segment, int]:
    segment = segment_of(segments, row)
    number = int(segment.arrays["text"][row - segment.header.first_row])
    return segments[bisect_right([s.header.first_text for s in segments], number) - 1], number


def _places(rows: Sequence[Row]) -> tuple[dict[str, Array], list[str], Ints]:
    """Lay out where rows came from, oldest first; also give their sources and the order they came in."""
    sources = sorted({row.source for row in rows})
    number = {source: i for i, source in enumerate(sources)}
    columns: dict[str, Array] = {
        "time": encoded(row.time or "" for row in rows),
        "row_id": encoded(row.row_id for row in rows),
        "source": np.array([number[row.source] for row in rows], np.int32),
        "line": np.array([row.line for row in rows], np.int64),
    }
    order: Ints = np.argsort(ranks(columns))
    return {name: column[order] for name, column in columns.items()} | {"rank": np.arange(order.size)}, sources, order


def _numbered(texts: Sequence[str]) -> tuple[Ints, list[str]]:
    """Number the distinct texts as they come; each empty text is one of its own."""
    numbers: dict[str, int] = {}
    distinct: list[str] = []
    first = np.empty(len(texts), np.int64)
    for i, text in enumerate(texts):
        known = numbers.setdefault(text, len(distinct)) if text else len(distinct)
        if known == len(distinct):
            distinct.append(text)
        first[i] = known
    return first, distinct


class _Blob(NamedTuple):
    """Texts end to end in UTF-8, with the hash of each."""

    bytes: Array
    offsets: Array
    hashes: Array


def _blob(texts: Sequence[str]) -> _Blob:
    from tunemill.dedup import index_kernels as kernels

    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    data = np.frombuffer(b"".join(parts), np.uint8)
    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=offsets[1:])
    offsets.flags.writeable = False  # as mapped arrays are, so that a kernel is compiled for one kind of array alone
    return _Blob(data, offsets, kernels.hashes(data, offsets))


def _packed(keys: Array, numbers: Array | None = None) -> Array:
    """Put 32-bit keys above the numbers of their texts and sort; by default every text with its own."""
    numbers = np.arange(keys.size) if numbers is None else numbers
    packed = keys << np.uint64(32) | numbers.astype(np.uint64)
    packed.sort()
    packed.flags.writeable = False
    return packed


def _known(earlier: Sequence[Segment], blob: _Blob) -> Ints:
    """Give for each text the number of the equal one in an earlier segment, -1 where there is none."""
    from tunemill.dedup import index_kernels as kernels

    known = np.full(blob.hashes.size, -1, np.int64)
    filled = np.flatnonzero(np.diff(blob.offsets) > 0)
    mine, texts = _packed(blob.hashes[filled], filled), (blob.bytes, blob.offsets)
    for segment in earlier:
        theirs = segment.compared[:2]
        kernels.equal_texts(mine, texts, segment.arrays["exact"], theirs, known, segment.header.first_text)
    return known


def _signed(texts: Sequence[str], parameters: Parameters) -> dict[str, Array]:
    """Sign the texts that are a shingle long or more, a stretch at a time."""
    long = np.array([i for i, text in enumerate(texts) if len(text) >= parameters.shingle], np.int64)
    values = min(parameters.bands * parameters.rows, SKETCH)
    sizes, sketches = np.zeros(len(texts), np.int32), np.zeros((len(texts), values), np.uint8)
    bands = np.empty((parameters.bands, long.size), np.uint64)
    lengths = np.cumsum([len(texts[i]) for i in long]) if long.size else np.empty(0, np.int64)
    stretches = np.searchsorted(
        lengths, np.arange(1, (int(lengths[-1]) if long.size else 0) // CHARACTERS + 1) * CHARACTERS
    )
    for part in np.split(np.arange(long.size), stretches):
        if not part.size or not parameters.bands:
            continue
        codes = encode([texts[i] for i in long[part]])
        found = sign(codes, parameters.shingle, parameters.bands, parameters.rows, parameters.seed)
        bands[:, part] = found.keys.T >> np.uint64(32) << np.uint64(32)
        sizes[long[part]], sketches[long[part]] = found.sizes, found.sketches
    bands |= long.astype(np.uint64)
    bands.sort(axis=1)
    for array in (sizes, sketches, bands):
        array.flags.writeable = False
    return {"sizes": sizes, "sketches": sketches, "bands": bands}


def _linked(earlier: Sequence[Segment], new: dict[str, Array], parameters: Parameters) -> dict[str, Array]:
    """Find the links of the new texts to each other and to the earlier ones."""
    from tunemill.dedup import index_kernels as kernels

    base, count = follows(earlier)[1], new["sizes"].size
    parent = np.concatenate([_forest(earlier), base + np.arange(count)])
    left, right = np.empty(parent.size, np.int64), np.empty(parent.size, np.int64)
    links, found = (left, right, np.empty(parent.size)), np.zeros(1, np.int64)
    if parameters.bands and count:
        enough = enough_agreeing(new["sketches"].shape[1], parameters.threshold, MISS / 10)
        rule = (parameters.threshold, parameters.shingle, enough)
        texts = (new["texts"], new["offsets"], new["sizes"], new["sketches"])
        scratch = _scratch(earlier, int(np.diff(new["offsets"]).max()))
        for band in range(parameters.bands):
            mine = new["bands"][band]
            for segment in earlier:
                theirs = (segment.arrays["bands"][band], segment.compared, segment.header.first_text)
                kernels.across(mine, texts, base, *theirs, rule, scratch, parent, links, found)
            kernels.within(mine, texts, base, rule, scratch, parent, links, found)
    made = int(found[0])
    return {"links": np.stack([left[:made], right[:made]], axis=1), "strength": links[2][:made].copy()}


def _scratch(segments: Sequence[Segment], longest: int = 0) -> Any:
    from tunemill.dedup import index_kernels as kernels

    return kernels.new_scratch(max([longest, *(segment.header.longest for segment in segments)]))


def _forest(segments: Sequence[Segment]) -> Ints:
    """Unite the texts of all segments along their links: a parent for each."""
    from tunemill.dedup import index_kernels as kernels

    parent: Ints = np.arange(follows(segments)[1])
    for segment in segments:
        links = segment.arrays["links"]
        kernels.unite_all(parent, links[:, 0], links[:, 1])
    return parent


def _settle(segments: Sequence[Segment], stays: Ints, several: Sequence[Ints]) -> None:
    """Let the oldest row stay where a component has rows in several segments: one of each is enough to compare."""
    if not sum(part.size for part in several):
        return
    component, row = np.concatenate(several, axis=1)
    order = np.argsort(component, kind="stable")
    for rivals in np.split(order, np.flatnonzero(np.diff(component[order])) + 1):
        root = component[rivals[0]]
        numbers = [int(stays[root]), *row[rivals].tolist()]
        stays[root] = min(numbers, key=lambda number: segment_of(segments, number).place(number))
