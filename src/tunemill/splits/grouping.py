"""Say which rows belong together: prompts that are nearly the same, one conversation, one user, the same messages."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from tunemill.dedup.clusters import clusters
from tunemill.dedup.components import Ints, components
from tunemill.dedup.meetings import meetings
from tunemill.dedup.text import normalise, prompt_text
from tunemill.rows import Row
from tunemill.splits.ledger import Ledger
from tunemill.splits.settings import SplitSettings

By = Literal["row", "conversation", "user", "prompt"]

SHINGLE = 5


def texts_of(rows: Sequence[Row]) -> list[str]:
    """Give of each row what it is compared by."""
    return [normalise(prompt_text(row)) for row in rows]


def groups(rows: Sequence[Row], settings: SplitSettings, texts: Sequence[str] | None = None) -> Ints:
    """Label each row with the smallest index of its group; `texts` are those of `texts_of` where they are known."""
    labels = [clusters(texts_of(rows) if texts is None else texts, settings.group_threshold, SHINGLE)]
    if settings.by_conversation:
        labels.append(_same([row.conversation for row in rows]))
    if settings.by_user:
        labels.append(_same([row.user for row in rows]))
    labels.append(_same([row.row_id for row in rows]))
    here = np.tile(np.arange(len(rows)), len(labels))
    return components(len(rows), here, np.concatenate(labels))


def _same(names: Sequence[str | None]) -> Ints:
    first: dict[str, int] = {}
    return np.array([i if name is None else first.setdefault(name, i) for i, name in enumerate(names)], np.int64)


class Touch(NamedTuple):
    """A new row and an entry of the ledger that belong together."""

    row: int
    entry: int
    by: By


@dataclass(frozen=True)
class Newcomers:
    """New rows and what ties them together."""

    rows: Sequence[Row]
    texts: Sequence[str]
    settings: SplitSettings
    twins: tuple[tuple[int, int], ...] = ()
    """Pairs of alike prompts that the grouping missed."""

    def group(self, some: Sequence[int]) -> Ints:
        """Label each of some rows with the smallest of its group among them."""
        places = {i: k for k, i in enumerate(some)}
        labels = groups(self.of(some), self.settings, [self.texts[i] for i in some])
        inside = [(places[i], places[j]) for i, j in self.twins if i in places and j in places]
        left, right = np.array(inside, np.int64).reshape(-1, 2).T
        here = np.arange(len(some))
        within = components(len(some), np.concatenate([here, left]), np.concatenate([labels, right]))
        return np.array(some, np.int64)[within]

    def names(self, of: Sequence[Row]) -> list[tuple[By, list[str | None]]]:
        """Give what ties rows together beside their prompt."""
        named: list[tuple[By, list[str | None]]] = [("row", [row.row_id for row in of])]
        if self.settings.by_conversation:
            named.append(("conversation", [row.conversation for row in of]))
        if self.settings.by_user:
            named.append(("user", [row.user for row in of]))
        return named

    def touches(self, ledger: Ledger) -> list[Touch]:
        """Find what the rows have in common with the ledger: of each name an entry a side, of each group a prompt."""
        columns = {
            "row": ledger.entries.row_id,
            "conversation": ledger.entries.conversation,
            "user": ledger.entries.user,
        }
        found = []
        for by, mine in self.names(self.rows):
            first: dict[str, dict[int, int]] = {name: {} for name in mine if name is not None}
            for entry, name in enumerate(columns[by]):
                if name in first:
                    first[name].setdefault(int(ledger.sides[entry]), entry)
            found += [Touch(i, e, by) for i, name in enumerate(mine) if name for _, e in sorted(first[name].items())]
        order = np.argsort(ledger.groups, kind="stable")
        distinct = list(dict.fromkeys(self.texts))
        many = [ledger.entries.text[int(entry)] for entry in order]
        met = meetings(distinct, many, self.settings.group_threshold, runs=ledger.groups[order])
        entries: list[list[int]] = [[] for _ in distinct]
        for left, right in zip(met.left, order[met.right], strict=True):
            entries[left].append(int(right))
        place = {text: i for i, text in enumerate(distinct)}
        return found + [Touch(i, e, "prompt") for i, text in enumerate(self.texts) for e in entries[place[text]]]

    def beside(self, some: Sequence[int], claimed: Sequence[int]) -> Iterator[tuple[int, int, By]]:
        """Find for each of some rows one of the claimed that it belongs to, if there is any."""
        for (by, one), (_, other) in zip(self.names(self.of(some)), self.names(self.of(claimed)), strict=True):
            first: dict[str | None, int] = {}
            for i, name in zip(claimed, other, strict=True):
                first.setdefault(name, i)
            yield from ((i, first[name], by) for i, name in zip(some, one, strict=True) if name and name in first)
        one_run = np.zeros(len(claimed), np.int64)
        few, many = ([self.texts[i] for i in part] for part in (some, claimed))
        met = meetings(few, many, self.settings.group_threshold, runs=one_run)
        yield from ((some[i], claimed[j], "prompt") for i, j in zip(met.left, met.right, strict=True))
        for pair in self.twins:
            for i, j in (pair, pair[::-1]):
                if i in some and j in claimed:
                    yield i, j, "prompt"

    def of(self, some: Sequence[int]) -> list[Row]:
        """Give the rows in these places."""
        return [self.rows[i] for i in some]
