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
from tunemill.splits.columns import Columns, ordered
from tunemill.splits.dealing import TOLERANCE, gathered, moment
from tunemill.splits.grouping import Newcomers, texts_of
from tunemill.splits.joining import Bridge
from tunemill.splits.keys import keys
from tunemill.splits.ledger import NAME, Entry, Grouping, Ledger, schema
from tunemill.splits.rounds import Found, certified
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
        Columns.of(rows).table, lambda places: texts_of([rows[int(i)] for i in places]), settings, ledger or Ledger()
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
    new = Newcomers(Columns(rows.take(looked)), texts(looked), settings)
    times = rows["time"].to_pylist() if settings.by_time else []
    newest = max(filter(None, map(moment, set(times))), default=None)
    found = certified(new, new.groups(), ledger, newest)
    added, of = _added(new, found, known[looked])
    after = ledger.with_night(added, Grouping.of(settings))
    at = known.copy()
    at[looked] = np.where((known[looked] < 0) & (of >= 0), of + len(ledger), known[looked])
    places = np.append(ledger.sides, len(SIDES))[known]
    places[looked] = found.sides
    stand = Stand(places, np.append(after.groups, -1)[at], times, new.rows, found.sides)
    counted = certificate(stand, settings, found.crossed, after, newest)
    check(counted, ledger)
    first = np.full(added.num_rows, -1)
    first[of[of >= 0]] = new.distinct[1][of >= 0]
    return Dealt(places, _bridges(new, found), added, new.bands.take(first), counted)


def _bridges(new: Newcomers, found: Found) -> list[Bridge]:
    out = np.flatnonzero(found.sides == len(SIDES)).tolist()
    return [Bridge(*new.rows.origin(i), found.joined.bridges[i]) for i in out]


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
    return [int(i) for i in _fresh(ledger.places(Columns.of(rows).table), settings, ledger)]


def _fresh(known: Ints, settings: SplitSettings, ledger: Ledger) -> Ints:
    every = ledger.grouping is not None and not ledger.grouping.covers(Grouping.of(settings))
    return np.arange(known.size) if every else np.flatnonzero(known < 0)


def _added(new: Newcomers, found: Found, known: Ints) -> tuple["pa.Table", Ints]:
    """Write down each row that was never dealt before, once; also give the entry of each row, -1 where it has none.

    Entries stand in the order of their names, which that of the rows does not change.
    """
    import pyarrow as pa

    dealt = (known < 0) & (found.sides < len(SIDES))
    order = _in_order(new.rows, new.rows.by_id[dealt[new.rows.by_id]])
    names = keys(new.rows.table.take(order), NAME)
    begins = np.append(True, (names[1:] != names[:-1]).any(axis=1))[: order.size]
    of = np.full(len(new.rows), -1)
    of[order] = np.cumsum(begins) - 1
    chosen = order[begins]
    slim = new.rows.table.take(chosen)
    columns = {name: slim[name] for name in schema().names if name in slim.column_names}
    columns["group"] = pa.array(_names(new, found), pa.string()).take(chosen)
    columns["side"] = pa.array(SIDES).take(found.sides[chosen])
    columns["text"] = pa.array(new.distinct[0], pa.string()).take(new.distinct[1][chosen])
    return pa.table([columns[name] for name in schema().names], schema=schema()), of


def _in_order(rows: Columns, order: Ints) -> Ints:
    """Sort rows of one id, which stand together, by conversation and user; of equal ones the oldest stands first."""
    ids = keys(rows.table.take(order), ("row_id",))
    begins = np.flatnonzero(np.append(True, (ids[1:] != ids[:-1]).any(axis=1))[: order.size])
    ends = np.append(begins[1:], order.size)
    found = order.copy()
    for start, end in zip(*(each[ends - begins > 1].tolist() for each in (begins, ends)), strict=True):
        some = rows.take(order[start:end])
        names = list(zip(some.names("conversation"), some.names("user"), order[start:end].tolist(), strict=True))
        found[start:end] = [i for _, _, i in sorted((one or "", other or "", i) for one, other, i in names)]
    return found


def _names(new: Newcomers, found: Found) -> list[str]:
    """Name the group of each new row: as the ledger does where it joins one, else by its smallest row id."""
    groups = gathered(new.rows, found.joined.labels)
    joined = found.joined.names
    names = [joined.get(label, name) for label, name in zip(groups.labels.tolist(), groups.names, strict=True)]
    names.append("")  # of those that are left out, whose group is -1
    return [names[group] for group in groups.of.tolist()]
