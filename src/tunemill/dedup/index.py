"""Know again what earlier nights have seen: an index of texts that grows by what is new.

Two texts are linked where they are equal, or share a MinHash band, agree on enough of their sketches and reach the
threshold exactly. Each of these depends on the two texts alone, never on what stands beside them, so the links that a
set of rows has are the same in one batch, in many nights and in any order; a link is left out only where others
connect the two already. Of each cluster, the component of what is linked, the oldest row stays.

A night may bring a row that is older than the one that stayed until then, or that connects two clusters: from then on
the oldest row of all stays. Labels are therefore never stored. `labels(segments)` derives them from the links, and
`labels(segments[:n])` are those that were given after n nights.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunemill.dedup.columns import Columns
from tunemill.dedup.components import Ints
from tunemill.dedup.pairs import SEED
from tunemill.dedup.segments import (
    Array,
    Parameters,
    Segment,
    ages,
    compact,
    follows,
    gathered,
    ranks,
    to_compact,
    write_segment,
)
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.dedup.signatures import SKETCH, Codes, bands_for, enough_agreeing, sign
from tunemill.errors import ConfigError
from tunemill.files import link

MISS = 1e-3
"""Chance that a pair exactly at the threshold shares no band; at 0.7 that of one at 0.75 is 3e-5, at 0.8 3e-7."""
CHARACTERS = 16_000_000
"""Characters that are signed at once: they take four bytes each for that long."""


def parameters_of(settings: DeduplicateSettings) -> Parameters:
    """Choose bands for a threshold: 38 of 5 values at 0.7."""
    bands, rows = bands_for(settings.threshold, MISS) if settings.near else (0, 0)
    return Parameters(settings.threshold, settings.shingle, bands, rows, SEED)


def grow(earlier: Sequence[Segment], rows: Columns, settings: DeduplicateSettings, folder: Path) -> Segment:
    """Write one segment that holds `rows` and their links to each other and to all earlier ones.

    Rows are compared by their texts; empty ones are like no other. The order in which they came changes no byte: in the
    segment they stand from old to new. Of the earlier segments only the texts of candidates are read, and nothing is
    written.

    Raises:
        ConfigError: the earlier segments were made with another threshold or shingle.
    """
    from tunemill.dedup import text_kernels as kernels

    parameters = parameters_of(settings)
    if earlier and earlier[-1].header.parameters != parameters:
        held = earlier[-1].header.parameters
        raise ConfigError(
            f"deduplicate: the index was made with threshold {held.threshold}, shingle {held.shingle} and {held.bands} "
            f"bands, asked for are {parameters.threshold}, {parameters.shingle} and {parameters.bands}; begin a new one"
        )
    order = np.argsort(ranks(rows.arrays))
    arrays = {name: column[order] for name, column in rows.arrays.items()} | {"rank": np.arange(order.size)}
    hashed = kernels.hashes(rows.texts, rows.offsets, np.arange(order.size))
    number, distinct = kernels.distinct(rows.texts, rows.offsets, hashed, order)
    known = _known(earlier, rows, hashed, distinct)
    fresh = known < 0
    known[fresh] = follows(earlier)[1] + np.arange(np.count_nonzero(fresh))
    texts, offsets = kernels.gather(rows.texts, rows.offsets, distinct[fresh])
    for array in (texts, offsets):
        array.flags.writeable = False  # as mapped arrays are, so that a kernel is compiled for one kind of array alone
    arrays |= {"text": known[number], "texts": texts, "offsets": offsets}
    arrays["exact"] = _packed(hashed[distinct[fresh]], np.arange(offsets.size - 1))
    arrays |= _signed(texts, offsets, parameters)
    arrays |= _linked(earlier, arrays, parameters)
    return write_segment(folder, earlier, parameters, (rows.sources, rows.tables), arrays)


def extend(earlier: Sequence[Segment], rows: Columns, settings: DeduplicateSettings, folder: Path) -> list[Segment]:
    """Give an index of the earlier rows and these, whose segments all lie in `folder`.

    Earlier segments get a second name there, but for those that are taken into the new one; where no rows came, none is
    written.
    """
    count = rows.offsets.size - 1
    taken = to_compact([segment.header.rows for segment in earlier], count) if count else 0
    held = [_linked_to(segment, folder / segment.folder.name) for segment in earlier[: len(earlier) - taken]]
    if not count:
        return held
    target = folder / f"{len(held):04}"
    if not taken:
        return [*held, grow(earlier, rows, settings, target)]
    alone = grow(earlier, rows, settings, folder / ".alone")
    merged = compact([*earlier, alone], taken + 1, target)
    shutil.rmtree(alone.folder)
    return [*held, merged]


def _linked_to(segment: Segment, folder: Path) -> Segment:
    folder.mkdir(parents=True)
    link(sorted(segment.folder.iterdir()), folder)
    return Segment(folder, segment.header)


def labels(segments: Sequence[Segment], dropped: npt.NDArray[np.bool_] | None = None) -> Ints:
    """Label each row with the number of the row that stays in its place: the oldest of its cluster.

    Rows that are `dropped` join what is like them, but never stay; where a whole cluster is, its label is -1.
    """
    from tunemill.dedup import index_kernels as kernels

    parent = _forest(segments)
    kernels.flatten(parent)
    seen = np.full(parent.size, -1, np.int64)
    stays = np.full(parent.size, -1, np.int64)
    several: list[Ints] = []
    for number, segment in enumerate(segments):
        component = parent[segment.arrays["text"]]
        order = np.argsort(segment.arrays["rank"])
        if dropped is not None:
            order = order[~dropped[segment.header.first_row :][order]]
        before = seen >= 0 if number else np.zeros(0, np.bool_)
        first = kernels.first_rows(component, order, number, seen)
        if number:
            again = first[before[component[first]]]
            several.append(np.stack([component[again], again + segment.header.first_row]))
            first = first[~before[component[first]]]
        stays[component[first]] = first + segment.header.first_row
    _settle(segments, stays, several)
    return np.concatenate([np.empty(0, np.int64), *(stays[parent[s.arrays["text"]]] for s in segments)])


def similarities(segments: Sequence[Segment], left: Ints, right: Ints) -> npt.NDArray[np.float64]:
    """Compute the exact Jaccard similarity of pairs of rows, by their numbers; 1 where their texts are equal."""
    from tunemill.dedup import index_kernels as kernels

    found, scratch = np.ones(left.size), _scratch(segments)
    one, other = texts_of(segments, left), texts_of(segments, right)
    begins = [segment.header.first_text for segment in segments]
    mine, theirs = (np.searchsorted(begins, texts, side="right") - 1 for texts in (one, other))
    for a, b in np.unique(np.stack([mine, theirs])[:, one != other], axis=1).T.tolist():
        where = np.flatnonzero((mine == a) & (theirs == b) & (one != other))
        where = where[np.argsort(one[where], kind="stable")]
        first, second = segments[a], segments[b]
        pairs = first.compared, begins[a], one[where], second.compared, begins[b], other[where]
        kernels.similarities(*pairs, first.header.parameters.shingle, scratch, found, where)
    return found


def texts_of(segments: Sequence[Segment], rows: Ints) -> Ints:
    """Give the texts of rows, both by their numbers."""
    return gathered(segments, rows, ("text",))["text"]


def text_hashes(segments: Sequence[Segment], texts: Ints) -> npt.NDArray[np.uint64]:
    """Hash texts, given by their numbers, to 64 bits each, from the bytes that stand in the index."""
    from tunemill.dedup import text_kernels as kernels

    found = np.empty(texts.size, np.uint64)
    holds = np.searchsorted([s.header.first_text for s in segments], texts, side="right") - 1
    for number, segment in enumerate(segments):
        at = np.flatnonzero(holds == number)
        inside = texts[at] - segment.header.first_text
        found[at] = kernels.hashes(segment.arrays["texts"], segment.arrays["offsets"], inside)
    return found


def _packed(hashed: Array, numbers: Array) -> Array:
    """Put the upper half of hashes above the numbers of their texts and sort."""
    packed = hashed >> np.uint64(32) << np.uint64(32) | numbers.astype(np.uint64)
    packed.sort()
    packed.flags.writeable = False
    return packed


def _known(earlier: Sequence[Segment], rows: Columns, hashed: Array, some: Ints) -> Ints:
    """Give for some texts the number of the equal one in an earlier segment, -1 where there is none."""
    from tunemill.dedup import index_kernels as kernels

    known = np.full(hashed.size, -1, np.int64)
    filled = some[rows.offsets[some + 1] > rows.offsets[some]]
    mine, texts = _packed(hashed[filled], filled), (rows.texts, rows.offsets)
    for segment in earlier:
        theirs = segment.compared[:2]
        kernels.equal_texts(mine, texts, segment.arrays["exact"], theirs, known, segment.header.first_text)
    return known[some]


def _signed(texts: Array, offsets: Array, parameters: Parameters) -> dict[str, Array]:
    """Sign the texts that are a shingle long or more, a stretch at a time."""
    from tunemill.dedup import text_kernels as kernels

    lengths = kernels.characters(texts, offsets)
    long = np.flatnonzero(lengths >= parameters.shingle)
    values = min(parameters.bands * parameters.rows, SKETCH)
    sizes, sketches = np.zeros(lengths.size, np.int32), np.zeros((lengths.size, values), np.uint8)
    bands = np.empty((parameters.bands, long.size), np.uint64)
    stretch = np.cumsum(lengths[long]) // CHARACTERS
    for part in np.split(np.arange(long.size), np.flatnonzero(np.diff(stretch)) + 1):
        if not part.size or not parameters.bands:
            continue
        codes = Codes(*kernels.decoded(texts, offsets, lengths, long[part]))
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
    roots = np.unique(component)
    component, row = np.concatenate([roots, component]), np.concatenate([stays[roots], row])
    order = np.lexsort((ages(segments, row), component))
    first = order[np.flatnonzero(np.diff(component[order], prepend=-1))]
    stays[component[first]] = row[first]
