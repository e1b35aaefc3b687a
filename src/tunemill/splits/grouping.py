"""Say which rows belong together: prompts that are nearly the same, one conversation, one user, the same messages."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from tunemill.dedup.bands import Bands, compared_with, linked, met, signed
from tunemill.dedup.components import Ints, components
from tunemill.dedup.crossings import Method
from tunemill.dedup.meetings import meetings
from tunemill.dedup.overlap import Pairs
from tunemill.dedup.text import normalise_all, prompt_text
from tunemill.rows import Row
from tunemill.splits.columns import Columns
from tunemill.splits.keys import numbered
from tunemill.splits.ledger import SHINGLE, Ledger
from tunemill.splits.settings import SplitSettings

By = Literal["row", "conversation", "user", "prompt"]

COMPARISONS = 300_000_000
"""Pairs of a new prompt and an old one up to which all are looked up exactly: about 0.5 s."""


def texts_of(rows: Sequence[Row]) -> list[str]:
    """Give of each row what it is compared by."""
    return normalise_all(map(prompt_text, rows))


class Touch(NamedTuple):
    """A new row and an entry of the ledger that belong together."""

    row: int
    entry: int
    by: By


@dataclass(frozen=True)
class Newcomers:
    """New rows and what ties them together."""

    rows: Columns
    texts: Sequence[str]
    settings: SplitSettings
    twins: tuple[tuple[int, int], ...] = ()
    """Pairs of alike prompts that the grouping missed."""

    @cached_property
    def distinct(self) -> tuple[list[str], Ints]:
        """The different prompts in ascending order, and which of them each row has.

        In that order what is alike lies side by side in memory too, and nothing depends on the order of the rows.
        """
        texts = sorted(set(self.texts))
        numbers = dict(zip(texts, range(len(texts)), strict=True))
        return texts, np.fromiter(map(numbers.__getitem__, self.texts), np.int64, len(self.texts))

    @cached_property
    def bands(self) -> Bands:
        """What the different prompts are looked up by."""
        return signed(self.distinct[0], self.settings.group_threshold, SHINGLE)

    def tied(self, twins: Iterable[tuple[int, int]]) -> "Newcomers":
        """Give the same rows with more pairs of alike prompts."""
        found = replace(self, twins=(*self.twins, *twins))
        vars(found).update({name: vars(self)[name] for name in ("distinct", "bands") if name in vars(self)})
        return found

    def groups(self) -> Ints:
        """Label each row with the smallest index of its group."""
        texts, of = self.distinct
        first = np.full(len(texts), len(self.rows))
        np.minimum.at(first, of, np.arange(len(self.rows)))
        same = first[linked(texts, self.bands, self.settings.group_threshold, SHINGLE)][of]
        labels = [np.where(np.array([len(text) for text in texts], np.int64)[of] > 0, same, np.arange(len(self.rows)))]
        labels += [numbered(self.rows.table[name]) for _, name in self.ties]
        here = np.tile(np.arange(len(self.rows)), len(labels))
        return components(len(self.rows), here, np.concatenate(labels))

    def group(self, some: Sequence[int]) -> Ints:
        """Label each of some rows with the smallest of its group among them."""
        places = {i: k for k, i in enumerate(some)}
        labels = Newcomers(self.rows.take(some), [self.texts[i] for i in some], self.settings).groups()
        inside = [(places[i], places[j]) for i, j in self.twins if i in places and j in places]
        left, right = np.array(inside, np.int64).reshape(-1, 2).T
        here = np.arange(len(some))
        within = components(len(some), np.concatenate([here, left]), np.concatenate([labels, right]))
        return np.array(some, np.int64)[within]

    @property
    def ties(self) -> list[tuple[By, str]]:
        """What ties rows together beside their prompt, and the column that it stands in."""
        tied: list[tuple[By, str]] = [("row", "row_id")]
        tied += [("conversation", "conversation")] if self.settings.by_conversation else []
        return tied + ([("user", "user")] if self.settings.by_user else [])

    def touches(self, ledger: Ledger) -> tuple[list[Touch], Method]:
        """Find what the rows have in common with the ledger: of each name an entry a side, of each group a prompt."""
        if not len(ledger):
            return [], "every new row at the threshold"
        found = [Touch(i, e, by) for by, name in self.ties for i, e in _named(name, self.rows.names(name), ledger)]
        texts, of = self.distinct
        pairs, method = alike(texts, self.bands, ledger, self.settings.group_threshold)
        entries: list[list[int]] = [[] for _ in texts]
        for left, right in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
            entries[left].append(right)
        return found + [Touch(i, e, "prompt") for i, text in enumerate(of.tolist()) for e in entries[text]], method

    def beside(self, some: Sequence[int], claimed: Sequence[int]) -> Iterator[tuple[int, int, By]]:
        """Find for each of some rows one of the claimed that it belongs to, if there is any."""
        for by, column in self.ties:
            one, other = (self.rows.take(part).names(column) for part in (some, claimed))
            first: dict[str | None, int] = {}
            for i, name in zip(claimed, other, strict=True):
                first.setdefault(name, i)
            yield from ((i, first[name], by) for i, name in zip(some, one, strict=True) if name and name in first)
        one_run = np.zeros(len(claimed), np.int64)
        few, many = ([self.texts[i] for i in part] for part in (some, claimed))
        found = meetings(few, many, self.settings.group_threshold, runs=one_run)
        yield from ((some[i], claimed[j], "prompt") for i, j in zip(found.left, found.right, strict=True))
        for pair in self.twins:
            for i, j in (pair, pair[::-1]):
                if i in some and j in claimed:
                    yield i, j, "prompt"


def _named(name: str, names: Sequence[str | None], ledger: Ledger) -> Iterator[tuple[int, int]]:
    """Pair each row with the first entry of its name on each side."""
    import pyarrow as pa
    import pyarrow.compute as pc

    own: dict[str, dict[int, int]] = {given: {} for given in names if given}
    column = ledger.table[name]
    hits = np.flatnonzero(pc.is_in(column, pa.array(list(own), pa.string())).to_numpy())
    for entry, found in zip(hits.tolist(), column.take(hits).to_pylist(), strict=True):
        own[found].setdefault(int(ledger.sides[entry]), entry)
    return ((i, entry) for i, given in enumerate(names) if given for _, entry in sorted(own[given].items()))


def alike(texts: Sequence[str], bands: Bands, ledger: Ledger, threshold: float) -> tuple[Pairs, Method]:
    """Pair each text with the first entry of each group in the ledger that it reaches."""
    groups = ledger.groups
    if len(texts) * len(ledger) <= COMPARISONS:
        order = np.argsort(groups, kind="stable")
        old = ledger.texts
        found = meetings(texts, [old[i] for i in order.tolist()], threshold, SHINGLE, runs=groups[order])
        return Pairs(found.left, order[found.right], found.similarity), "every new row at the threshold"
    left, right = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for first, held in ledger.bands(threshold):
        one, other = met(bands, held, groups[first : first + held.sizes.size], threshold)
        left.append(one)
        right.append(other + first)
    ones, others = np.concatenate(left), np.concatenate(right)
    entries, place = np.unique(others, return_inverse=True)
    found = compared_with(texts, ledger.at(entries, "text"), ones, place, threshold, SHINGLE)
    _, once = np.unique(np.stack([found.left, groups[entries[found.right]]]), axis=1, return_index=True)
    once.sort()
    pairs = Pairs(found.left[once], entries[found.right[once]], found.similarity[once])
    return pairs, "MinHash, another seed"
