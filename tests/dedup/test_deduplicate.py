from random import Random

import pytest

from tests.dedup.conftest import Brute, Clean, deduplicate
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.dedup.text import conversation_text, normalise
from tunemill.rows import Message, Row, make_row

SETTINGS = DeduplicateSettings()


def row(asked: str, answer: str = "Yes.", line: int = 1, **known: str) -> Row:
    return make_row([Message("user", asked), Message("assistant", answer)], "a" * 64, line, **known)


@pytest.fixture(scope="module")
def clean(banking: list[Row]) -> Clean:
    return deduplicate(banking, SETTINGS)


def test_no_two_kept_rows_of_banking77_reach_the_threshold(clean: Clean, brute: Brute) -> None:
    some = Random(1).sample(clean.kept, 2_000)
    assert brute([normalise(conversation_text(row)) for row in some], SETTINGS.threshold) == {}


def test_every_row_of_banking77_is_kept_or_named(banking: list[Row], clean: Clean) -> None:
    places = [row.line for row in clean.kept] + [duplicate.line for duplicate in clean.duplicates]
    assert sorted(places) == [row.line for row in banking]
    assert {duplicate.kept_line for duplicate in clean.duplicates} <= {row.line for row in clean.kept}


def test_shuffled_rows_of_banking77_give_the_same_result(banking: list[Row], clean: Clean) -> None:
    assert deduplicate(Random(2).sample(banking, len(banking)), SETTINGS) == clean


def test_the_oldest_row_of_a_cluster_is_kept() -> None:
    late = row("please send the invoice for my order", line=1, time="2026-02-01")
    early = row("Please send the invoice for my order!", line=2, time="2026-01-01")
    found = deduplicate([late, early], SETTINGS)
    assert found.kept == [early]
    [duplicate] = found.duplicates
    assert (duplicate.row_id, duplicate.kept_row_id, duplicate.kept_line) == (late.row_id, early.row_id, 2)
    assert (duplicate.kind, duplicate.similarity) == ("exact", 1.0)


def test_a_near_duplicate_is_named_with_its_similarity() -> None:
    # "abcdefghijkl yes" and "abcdefghijkx yes": 12 five-letter shingles each, of which 7 stand in both.
    found = deduplicate([row("abcdefghijkl"), row("abcdefghijkx", line=2)], DeduplicateSettings(threshold=0.4))
    [duplicate] = found.duplicates
    assert (duplicate.kind, duplicate.similarity) == ("near", round(7 / 17, 4))


def test_rows_that_differ_in_the_system_turn_alone_are_duplicates() -> None:
    asked = row("is the shop open on sundays").messages
    other = make_row([Message("system", "You sell tea."), *asked], "a" * 64, 2)
    assert len(deduplicate([make_row(asked, "a" * 64, 1), other], SETTINGS).duplicates) == 1


def test_with_near_switched_off_only_equal_text_is_dropped() -> None:
    rows = [
        row("please send my new card"),
        row("please send my new carb", line=2),
        row("PLEASE send my new card", line=3),
    ]
    found = deduplicate(rows, DeduplicateSettings(near=False))
    assert [kept.line for kept in found.kept] == [1, 2]


def test_no_rows_are_no_duplicates() -> None:
    assert deduplicate([], SETTINGS) == Clean([], [], [])
