import hashlib
import random

import pytest

from tunemill.dedup import deduplicate
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.errors import DataError
from tunemill.rows import Message, Row, make_row
from tunemill.splits import SplitSettings, cross_split, split


def row(number: int, text: str = "", source: str = "a", **known: str) -> Row:
    asked = text or hashlib.sha256(str(number).encode()).hexdigest()
    return make_row([Message("user", asked), Message("assistant", f"answer {number}")], source * 64, number, **known)


def test_1000_single_rows_give_exactly_800_100_100() -> None:
    _, found = split([row(i) for i in range(1000)], SplitSettings())
    assert found.rows == {"train": 800, "validation": 100, "test": 100}
    assert found.leaks == 0


def test_the_order_of_rows_and_files_changes_no_side() -> None:
    rows = [row(i) for i in range(200)]
    shuffled = rows[:]
    random.Random(1).shuffle(shuffled)
    first, _ = split(rows, SplitSettings())
    second, _ = split(shuffled, SplitSettings())
    assert first == second


def test_a_conversation_stands_on_one_side() -> None:
    rows = [row(i, conversation=f"c{i // 10}") for i in range(300)]
    parts, found = split(rows, SplitSettings())
    sides = [{r.conversation for r in part} for part in parts.values()]
    assert found.shared_conversations == 0
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_the_check_sees_a_twin_that_was_put_on_the_other_side() -> None:
    rows = [row(0, "where is my parcel with the red spade"), row(1, "where is my parcel with the red spades")]
    leaks, highest = cross_split(rows, ["train", "test"], 0.5)
    assert len(leaks.left) == 1
    assert highest > 0.8


def test_two_groups_cannot_fill_three_sides() -> None:
    with pytest.raises(DataError, match="form 2 groups"):
        split([row(0), row(1)], SplitSettings())


def test_the_oldest_of_near_duplicates_stays_whatever_the_order() -> None:
    rows = [
        row(7, "please send the invoice for order 5512 again"),
        row(2, "please send the invoice for order 5512 again!"),
    ]
    rows += [row(i) for i in range(20, 40)]
    first = deduplicate(rows, DeduplicateSettings())
    second = deduplicate(rows[::-1], DeduplicateSettings())
    assert [d.kept_line for d in first.duplicates] == [2]
    assert first == second
    assert len(first.kept) == 21


def test_a_contradiction_is_kept_and_counted() -> None:
    long = "the same question about the opening hours of the shop on a holiday"
    one = make_row([Message("user", long), Message("assistant", "yes")], "a" * 64, 1)
    other = make_row(
        [Message("user", long), Message("assistant", " ".join(str(i * 7919) for i in range(40)))], "a" * 64, 2
    )
    found = deduplicate([one, other], DeduplicateSettings())
    assert len(found.kept) == 2
    assert len(found.contradictions) == 1
