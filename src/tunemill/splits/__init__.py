"""Deal clean rows to train, validation and test so that nothing leaks from one to another, tonight or in later nights.

Rows that belong together (near-identical prompts, one conversation, one user) are one group and go to one side whole. A
group stays on its side for ever: the ledger knows where every row stands that was ever dealt, and new rows of a group
join it there. A row that would tie two sides together is left out and named.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tunemill.dedup.bands import Bands
from tunemill.dedup.components import Ints
from tunemill.errors import DataError
from tunemill.rows import Row
from tunemill.splits.certificate import Certificate, Stand, certificate
from tunemill.splits.columns import Columns, ordered, ranked
from tunemill.splits.dealing import TOLERANCE, gathered, moment
from tunemill.splits.grouping import Newcomers, texts_of
from tunemill.splits.joining import Bridge
from tunemill.splits.ledger import Entry, Grouping, Ledger, schema
from tunemill.splits.rounds import Found, certified, numbered
from tunemill.splits.settings import SIDES, ByTime, SplitSettings

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "SIDES",
    "Bridge",
    "ByTime",
    "Certificate",
    "Dealt",
    "Entry",
    "Grouping",
    "Ledger",
    "SplitSettings",
    "fresh",
    "split",
    "split_table",
]


@dataclass(frozen=True)
class Dealt:
    """Where every row went."""

    places: Ints
    """Side of each row in the order given, by its place in SIDES; len(SIDES) where it was left out as a bridge."""
    bridges: list[Bridge]
    added: "pa.Table"
    """What tonight adds to the ledger."""
    bands: Bands
    """What the prompts of these entries are looked up by."""
    certificate: Certificate

    @property
    def sides(self) -> list[str]:
        """Side of each row by its name; "" where it was left out."""
        names = (*SIDES, "")
        return [names[side] for side in self.places.tolist()]

    @cached_property
    def entries(self) -> list[Entry]:
        """What tonight adds to the ledger, as objects."""
        return [Entry(**entry) for entry in self.added.to_pylist()]


def split(rows: Sequence[Row], settings: SplitSettings, ledger: Ledger | None = None) -> Dealt:
    """Group, join, deal and certify rows; see `split_table`."""
    return split_table(
        Columns.of(rows).table(), lambda places: texts_of([rows[int(i)] for i in places]), settings, ledger or Ledger()
    )


def split_table(
    rows: "pa.Table", texts: Callable[[Ints], Sequence[str]], settings: SplitSettings, ledger: Ledger
) -> Dealt:
    """Group, join, deal and certify.

    Rows that the ledger knows keep their side; of those that are not `fresh` no text is asked for. The order of the
    rows changes nothing.

    Args:
        rows: columns of `SLIM`.
        texts: gives what the rows in some places are compared by.

    Raises:
        DataError: there are too few groups for three sides, one is so large that the shares cannot be met, or a leak is
            left.
    """
    known = ledger.places(rows)
    looked = _fresh(known, settings, ledger)
    looked = looked[ordered(rows.take(looked))]
    new = Newcomers(Columns.of_table(rows.take(looked)), texts(looked), settings)
    times = rows["time"].to_pylist() if settings.by_time else []
    newest = max(filter(None, map(moment, set(times))), default=None)
    found = certified(new, new.groups(), ledger, newest)
    sides = numbered(found.sides)
    added, of = _added(new, found, known[looked])
    after = ledger.with_night(added, Grouping.of(settings))
    at = known.copy()
    at[looked] = np.where((known[looked] < 0) & (of >= 0), of + len(ledger), known[looked])
    places = np.append(ledger.sides, len(SIDES))[known]
    places[looked] = sides
    stand = Stand(places, np.append(after.groups, -1)[at], times, new.rows, sides)
    counted = certificate(stand, settings, found.crossed, after, newest)
    check(counted, ledger)
    first = np.full(added.num_rows, -1)
    first[of[of >= 0]] = new.distinct[1][of >= 0]
    return Dealt(places, _bridges(new, found, sides), added, new.bands.take(first), counted)


def _bridges(new: Newcomers, found: Found, sides: Ints) -> list[Bridge]:
    rows = new.rows
    return [
        Bridge(rows.row_id[i], rows.source[i], rows.line[i], found.joined.bridges[i])
        for i in np.flatnonzero(sides == len(SIDES)).tolist()
    ]


def check(counted: Certificate, before: Ledger) -> None:
    """Stop on a leak, and on a night that pulls the shares of all rows apart.

    Groups that stand already may take in any number of rows, which new groups make up for. Where there are too few of
    these a side may miss its share by a tenth of all rows, or by as many as the largest group has; and by more where it
    did so before, as after a change of the shares.

    Raises:
        DataError: with the counts.
    """
    whole = counted.ledger
    if counted.leaks:
        raise DataError(
            f"split: {counted.cross_split_near_duplicates:,} pairs of prompts, {counted.shared_conversations:,} "
            f"conversations, {counted.shared_users:,} users and {counted.shared_rows:,} rows stand on two sides; "
            "this is a bug, report it"
        )
    count = sum(whole.rows.values())
    if not len(before) or whole.off_by <= max(TOLERANCE * count, whole.largest_group):
        return
    stood = np.bincount(before.sides, minlength=len(SIDES)) / len(before)
    if whole.off_by / count > max(abs(stood[i] - whole.asked[side]) for i, side in enumerate(SIDES)):
        shares = ", ".join(f"{side} {whole.got[side]:.1%} (asked {whole.asked[side]:.0%})" for side in SIDES)
        raise DataError(
            f"split: {whole.off_by:,.0f} of {count:,} rows of {whole.nights} nights would stand on the wrong side: "
            f"{shares}; new rows belong to groups that stand there already\n"
            "  Ask for these shares in `split`, or add rows that are about something new."
        )


def fresh(rows: Sequence[Row], settings: SplitSettings, ledger: Ledger) -> list[int]:
    """List the rows that have to be looked at: those that were never dealt.

    Where more is kept together now than when the ledger was dealt, that is every row: two on two sides may belong
    together.
    """
    return _fresh(ledger.places(Columns.of(rows).table()), settings, ledger).tolist()


def _fresh(known: Ints, settings: SplitSettings, ledger: Ledger) -> Ints:
    every = ledger.grouping is not None and not ledger.grouping.covers(Grouping.of(settings))
    return np.arange(known.size) if every else np.flatnonzero(known < 0)


def _added(new: Newcomers, found: Found, known: Ints) -> tuple["pa.Table", Ints]:
    """Write down each row that was never dealt before, once; also give the entry of each row, -1 where it has none.

    Entries stand in the order of their names, which that of the rows does not change.
    """
    import pyarrow as pa

    rows = new.rows
    dealt = (known < 0) & (numbered(found.sides) < len(SIDES))
    order = _by_name(rows, np.flatnonzero(dealt))
    names = [(rows.row_id[i], rows.conversation[i] or "", rows.user[i] or "") for i in order]
    own = [k for k, name in enumerate(names) if not k or name != names[k - 1]]
    of = np.full(len(rows), -1)
    of[order] = np.repeat(np.arange(len(own)), np.diff([*own, len(order)]))
    chosen = [order[k] for k in own]
    groups, some = _names(new, found), rows.take(chosen)
    columns = {name: getattr(some, name) for name in ("row_id", "source", "line", "conversation", "user")}
    columns |= {name: [given[i] for i in chosen] for name, given in (("side", found.sides), ("text", new.texts))}
    columns["group"] = [groups[i] for i in chosen]
    return pa.table([columns[name] for name in schema().names], schema=schema()), of


def _by_name(rows: Columns, some: Ints) -> list[int]:
    """Sort some rows by what makes each one row; of equal ones the oldest stands first."""
    if not some.size:
        return []
    row_ids = [rows.row_id[i] for i in some.tolist()]
    order = ranked(row_ids).tolist()
    found = some[order].tolist()
    begins = [k for k, at in enumerate(order) if not k or row_ids[at] != row_ids[order[k - 1]]]
    if len(begins) < len(found):
        for start, end in zip(begins, [*begins[1:], len(found)], strict=True):
            if end - start > 1:
                found[start:end] = sorted(
                    found[start:end], key=lambda i: (rows.conversation[i] or "", rows.user[i] or "", i)
                )
    return found


def _names(new: Newcomers, found: Found) -> list[str]:
    """Name the group of each new row: as the ledger does where it joins one, else by its smallest row id."""
    groups = gathered(new.rows, found.joined.labels)
    names = [
        found.joined.names.get(label) or name for label, name in zip(groups.labels.tolist(), groups.names, strict=True)
    ]
    names.append("")  # of those that are left out, whose group is -1
    return [names[group] for group in groups.of.tolist()]
