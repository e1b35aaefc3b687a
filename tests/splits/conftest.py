"""Nights of rows whose clusters grow, whose users come back, and of which some tie two clusters together."""

import hashlib
from collections.abc import Iterable, Sequence
from random import Random

from tunemill.rows import Message, Row, make_row
from tunemill.splits import Dealt, Entry, Grouping, Ledger, SplitSettings, split


def row(number: int, text: str = "", source: str = "a", **known: str | None) -> Row:
    """Give a row whose question no other number's is like, or one that asks `text`."""
    asked = text or hashlib.sha256(str(number).encode()).hexdigest()
    return make_row([Message("user", asked), Message("assistant", f"answer {number}")], source * 64, number, **known)


def topic(number: int) -> list[str]:
    """Give ten words that no other topic has."""
    digest = hashlib.sha256(f"topic {number}".encode()).hexdigest()
    return [digest[i : i + 6] for i in range(0, 60, 6)]


def a_night(draw: Random, night: int, size: int) -> list[Row]:
    """Draw rows about old and new topics, by old and new users; a twentieth speaks of two topics at once."""
    made = []
    for line in range(1, size + 1):
        words = topic(draw.randrange(60 + 10 * night))
        words[draw.randrange(10)] = f"x{draw.randrange(4)}"
        if draw.random() < 0.05:
            words = words[:7] + topic(draw.randrange(60 + 10 * night))[:7]
        known = {
            "user": f"u{draw.randrange(60 + 20 * night)}" if draw.random() < 0.2 else None,
            "conversation": f"c{draw.randrange(60 + 20 * night)}" if draw.random() < 0.2 else None,
        }
        turns = [Message("user", " ".join(words)), Message("assistant", f"answer {night} {line}")]
        made.append(make_row(turns, hashlib.sha256(str(night).encode()).hexdigest(), line, **known))
    return made


def go_on(ledger: Ledger, dealt: Dealt, settings: SplitSettings) -> Ledger:
    return ledger.with_night(dealt.entries, Grouping.of(settings))


def nights(every: Iterable[Sequence[Row]], settings: SplitSettings) -> tuple[list[Dealt], Ledger]:
    """Split night after night."""
    ledger, found = Ledger(), []
    for rows in every:
        found.append(split(rows, settings, ledger))
        ledger = go_on(ledger, found[-1], settings)
    return found, ledger


def side_of(ledger: Ledger, row: Row) -> str:
    return ledger.entries.side[ledger.place(row)]


def shingles(text: str) -> set[str]:
    return {text[i : i + 5] for i in range(len(text) - 4)} or {text}


def leaks(entries: Iterable[Entry], threshold: float = 0.5) -> list[tuple[str, str]]:
    """Compare every two entries on two sides the plain way."""
    known = [(entry, shingles(entry.text)) for entry in entries]
    found = []
    for i, (one, left) in enumerate(known):
        for other, right in known[:i]:
            if one.side == other.side:
                continue
            shared = len(left & right)
            if (
                shared >= threshold * (len(left) + len(right) - shared)
                or one.row_id == other.row_id
                or (one.user and one.user == other.user)
                or (one.conversation and one.conversation == other.conversation)
            ):
                found.append((one.row_id, other.row_id))
    return found
