"""Deal clean rows to train, validation and test so that nothing leaks from one to another, tonight or in later nights.

Rows that belong together (near-identical prompts, one conversation, one user) are one group and go to one side whole. A
group stays on its side for ever: the ledger knows where every row stands that was ever dealt, and new rows of a group
join it there. A row that would tie two sides together is left out and named.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tunemill.errors import DataError
from tunemill.rows import Row
from tunemill.splits.certificate import Certificate, Placed, certificate
from tunemill.splits.dealing import TOLERANCE, moment
from tunemill.splits.grouping import Newcomers, groups, texts_of
from tunemill.splits.joining import Bridge
from tunemill.splits.ledger import Entry, Grouping, Ledger
from tunemill.splits.rounds import Found, certified
from tunemill.splits.settings import SIDES, ByTime, SplitSettings

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
]


@dataclass(frozen=True)
class Dealt:
    """Where every row went."""

    sides: list[str]
    """Of each row in the order given; "" where it was left out as a bridge."""
    bridges: list[Bridge]
    entries: list[Entry]
    """What tonight adds to the ledger."""
    certificate: Certificate


def split(rows: Sequence[Row], settings: SplitSettings, ledger: Ledger | None = None) -> Dealt:
    """Group, join, deal and certify.

    Rows that the ledger knows keep their side; of those that are not `fresh` no messages are looked at. The order of
    the rows changes nothing.

    Raises:
        DataError: there are too few groups for three sides, one is so large that the shares cannot be met, or a leak is
            left.
    """
    ledger = ledger or Ledger()
    ordered = sorted(fresh(rows, settings, ledger), key=lambda i: (rows[i].place, rows[i].row_id))
    looked = [rows[i] for i in ordered]
    new = Newcomers(looked, texts_of(looked), settings)
    newest = max(filter(None, map(moment, rows)), default=None) if settings.by_time else None
    found = certified(new, groups(looked, settings, new.texts), ledger, newest)
    placed = _placed(rows, ordered, found, _names(new, found), ledger)
    bridges = [
        Bridge(r.row_id, r.source, r.line, found.joined.bridges[i]) for i, r in enumerate(looked) if not found.sides[i]
    ]
    entries = _entries(new, found, ledger)
    after = ledger.with_night(entries, Grouping.of(settings))
    counted = certificate(placed, settings, found.crossed, after, newest)
    check(counted, ledger)
    return Dealt([one.side for one in placed], bridges, entries, counted)


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
    stood = Counter(before.entries.side)
    if whole.off_by / count > max(abs(stood[side] / len(before) - whole.asked[side]) for side in SIDES):
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
    every = ledger.grouping is not None and not ledger.grouping.covers(Grouping.of(settings))
    return [i for i, row in enumerate(rows) if every or ledger.place(row) < 0]


def _names(new: Newcomers, found: Found) -> list[str]:
    """Name the group of each new row: as the ledger does where it joins one, else by its smallest row id."""
    labels, joined = found.joined.labels.tolist(), found.joined.names
    names: dict[int, str] = {}
    for label, row in zip(labels, new.rows, strict=True):
        names[label] = joined.get(label) or min(names.get(label, row.row_id), row.row_id)
    return [names[label] for label in labels]


def _placed(
    rows: Sequence[Row], looked: Sequence[int], found: Found, names: Sequence[str], ledger: Ledger
) -> list[Placed]:
    """Say of every row where it went: those that were not looked at stand where the ledger has them."""
    tonight = dict(zip(looked, zip(found.sides, names, strict=True), strict=True))
    placed = []
    for i, row in enumerate(rows):
        if i in tonight:
            placed.append(Placed(row, *tonight[i], True))
        else:
            at = ledger.place(row)
            placed.append(Placed(row, ledger.entries.side[at], ledger.entries.group[at], False))
    return placed


def _entries(new: Newcomers, found: Found, ledger: Ledger) -> list[Entry]:
    """Write down each row that was never dealt before, once."""
    named = zip(new.rows, _names(new, found), found.sides, new.texts, strict=True)
    entries = [
        Entry(row.row_id, row.source, row.line, name, side, text, row.conversation, row.user)
        for row, name, side, text in named
        if side and ledger.place(row) < 0
    ]
    return list({entry.name: entry for entry in reversed(entries)}.values())
