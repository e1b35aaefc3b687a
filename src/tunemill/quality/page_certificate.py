"""Say in words what the split's certificate has counted: tonight, and over all nights."""

from collections.abc import Iterator, Mapping
from typing import Any

from tunemill.quality.funnel import SIDES
from tunemill.quality.markdown import counted, quoted

Facts = Mapping[str, Any]
"""What certificate.json holds."""


def certificate(facts: Facts) -> Iterator[str]:
    """Yield the paragraphs."""
    yield _searched(str(facts.get("method", "")))
    yield "\n".join(f"- {line}" for line in (*_leaks(facts), *_nights(facts), *_left_out(facts)))


def _searched(method: str) -> str:
    """Say how leaks were looked for, and what that can miss."""
    if method.startswith("MinHash"):
        return (
            f"Counted after the rows were dealt. There are too many prompts to look at every pair ({quoted(method)}): "
            "those that share a MinHash band were compared exactly, and a pair at the threshold shares none with a "
            "chance of at most 1 in 1,000:"
        )
    how = f" ({quoted(method)})" if method else ""
    return f"Counted after the rows were dealt, by a search that shares no hash with the grouping{how}:"


def _leaks(facts: Facts) -> Iterator[str]:
    highest, shared = facts.get("highest_similarity"), ("conversations", "users", "rows")
    yield (
        f"{counted(facts.get('cross_split_near_duplicates', 0), 'pair')} of prompts on two sides with a similarity of "
        f"{facts.get('threshold')} or more (Jaccard, character 5-grams); "
        + ("pairs below it were too many to look at." if highest is None else f"the highest is {highest}.")
    )
    yield "Standing on two sides: " + ", ".join(f"{facts.get('shared_' + what, 0):,} {what}" for what in shared) + "."
    if groups := facts.get("groups"):
        dealt = ", ".join(f"{number:,} {side}" for side, number in groups.items())
        yield f"Groups dealt whole: {dealt}; the largest has {counted(facts.get('largest_group', 0))}."


def _nights(facts: Facts) -> Iterator[str]:
    """Say how the shares stand over all that was ever dealt."""
    if whole := facts.get("ledger"):
        sides = ((side, whole["rows"][side], whole["got"][side], whole["asked"][side]) for side in SIDES)
        shares = ", ".join(f"{rows:,} {side} ({got:.1%}, asked {asked:.0%})" for side, rows, got, asked in sides)
        yield (
            f"Over {counted(whole['nights'], 'night')}: {shares}; the worst side misses its share by "
            f"{whole['off_by']:,.1f} rows, the largest group has {counted(whole['largest_group'])}."
        )


def _left_out(facts: Facts) -> Iterator[str]:
    """Say what no side could take, and what holding the newest out could not do."""
    if bridges := facts.get("bridges"):
        yield f"{counted(bridges)} would tie two sides together and stayed out: bridges.jsonl."
    if spoiled := facts.get("contaminated"):
        yield f"{counted(spoiled)} of train would hold an item of a benchmark and stayed out: contaminated.jsonl."
    if aged := facts.get("by_time"):
        recent = aged["recent_train_rows"]
        held = "" if recent is None else f"{counted(recent)} of those days train, in groups that trained before; "
        timeless = counted(aged["rows_without_time"])
        yield f"The newest are held out as test. {held}{timeless} without a time count as old."
