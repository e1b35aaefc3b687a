"""A group keeps its side for ever, whatever later nights bring."""

import os
import subprocess
import sys
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.splits.conftest import a_night, go_on, leaks, nights, row, side_of
from tunemill.errors import DataError
from tunemill.home import PROJECT
from tunemill.rows import Row
from tunemill.splits import Entry, Ledger, SplitSettings, fresh, split

ASKED = SplitSettings()


def test_in_30_nights_of_growing_clusters_no_row_leaves_its_side_and_none_leaks() -> None:
    draw, ledger, stood, all_rows = Random(5), Ledger(), dict[str, str](), list[Row]()
    dealt_rows = bridges = 0
    for night in range(30):
        tonight = a_night(draw, night, 40)
        all_rows += tonight
        rows = all_rows if night % 3 else tonight
        found = split(rows, ASKED, ledger)
        ledger = go_on(ledger, found, ASKED)
        assert len(rows) == sum(found.certificate.rows.values()) + len(found.bridges)
        assert found.certificate.leaks == 0
        for each, side in zip(rows, found.sides, strict=True):
            name = f"{each.row_id} {each.user} {each.conversation}"
            assert not side or stood.setdefault(name, side) == side
        dealt_rows, bridges = len(ledger), bridges + len(found.bridges)
    assert leaks(entries_of(ledger)) == []
    assert 900 < dealt_rows <= 1200 and bridges > 10
    whole = found.certificate.ledger
    assert whole.nights == 30 and sum(whole.rows.values()) == dealt_rows
    assert whole.off_by <= max(whole.largest_group, 1)


def entries_of(ledger: Ledger) -> list[Entry]:
    return [Entry(*values) for values in zip(*ledger.entries, strict=True)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 25), min_size=1, max_size=6))
def test_any_nights_leak_nothing_and_lose_nothing(seed: int, sizes: list[int]) -> None:
    draw = Random(seed)
    every = [a_night(draw, 0, 40), *(a_night(draw, night, size) for night, size in enumerate(sizes, start=1))]
    found, ledger = nights(every, ASKED)
    assert leaks(entries_of(ledger)) == []
    for rows, dealt in zip(every, found, strict=True):
        assert len(rows) == len(dealt.sides) == sum(dealt.certificate.rows.values()) + len(dealt.bridges)
        for bridge in dealt.bridges:
            one, other = bridge.neighbours
            assert one.side != other.side


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_order_within_each_night_changes_no_side(seed: int, shuffle: Random) -> None:
    draw = Random(seed)
    every = [a_night(draw, night, 40) for night in range(4)]
    shuffled = [shuffle.sample(rows, len(rows)) for rows in every]
    one, other = nights(every, ASKED)[0], nights(shuffled, ASKED)[0]
    for rows, moved, first, second in zip(every, shuffled, one, other, strict=True):
        places = {id(each): side for each, side in zip(moved, second.sides, strict=True)}
        assert [places[id(each)] for each in rows] == first.sides
        assert first.bridges == second.bridges
        assert first.certificate == second.certificate
        assert sorted(first.entries, key=lambda e: e.name) == sorted(second.entries, key=lambda e: e.name)


@pytest.fixture(scope="module")
def first_night() -> tuple[list[Row], Ledger]:
    """Twenty questions of their own, each asked by a user and in a conversation of its own."""
    rows = [row(i, f"{row(i).messages[0].content} {i}", user=f"u{i}", conversation=f"c{i}") for i in range(20)]
    return rows, go_on(Ledger(), split(rows, ASKED), ASKED)


def on(first_night: tuple[list[Row], Ledger], side: str) -> Row:
    rows, ledger = first_night
    return next(each for each in rows if side_of(ledger, each) == side)


def asks(first_night: tuple[list[Row], Ledger], side: str) -> str:
    return on(first_night, side).messages[0].content


@pytest.mark.parametrize("side", ["train", "validation", "test"])
def test_a_twin_a_user_and_a_conversation_join_the_side_of_their_group(
    first_night: tuple[list[Row], Ledger], side: str
) -> None:
    old = on(first_night, side)
    new = [row(100, asks(first_night, side) + " x"), row(101, user=old.user), row(102, conversation=old.conversation)]
    found = split([*new, row(103)], ASKED, first_night[1])
    assert found.sides[:3] == [side] * 3
    assert len({entry.group for entry in found.entries}) == 2


def test_a_row_in_last_nights_test_set_never_trains_though_its_file_is_gone(
    first_night: tuple[list[Row], Ledger],
) -> None:
    tested, others = on(first_night, "test"), [row(i) for i in range(100, 140)]
    found = split([*others, row(200, tested.messages[0].content + " y")], ASKED, first_night[1])
    assert found.sides[-1] == "test"


def test_a_row_between_train_and_test_is_left_out_with_both_its_neighbours(
    first_night: tuple[list[Row], Ledger],
) -> None:
    trained, tested = on(first_night, "train"), on(first_night, "test")
    found = split([row(300, asks(first_night, "train") + " z", user=tested.user)], ASKED, first_night[1])
    assert found.sides == [""] and found.entries == []
    (bridge,) = found.bridges
    named = {(neighbour.row_id, neighbour.side, neighbour.by) for neighbour in bridge.neighbours}
    assert named == {(trained.row_id, "train", "prompt"), (tested.row_id, "test", "user")}


def test_the_same_words_of_a_user_on_another_side_are_left_out(first_night: tuple[list[Row], Ledger]) -> None:
    trained, tested = on(first_night, "train"), on(first_night, "test")
    again = Row(tested.row_id, "d" * 64, 1, tested.messages, user=trained.user)
    assert split([again], ASKED, first_night[1]).sides == [""]


def test_of_a_chain_from_train_to_test_the_row_next_to_train_is_left_out(
    first_night: tuple[list[Row], Ledger],
) -> None:
    trained, tested = on(first_night, "train"), on(first_night, "test")
    chain = [
        row(401, user=trained.user, conversation="new"),
        row(402, conversation="new"),
        row(403, conversation="new", user=tested.user),
    ]
    found = split([*chain, row(404)], ASKED, first_night[1])
    assert found.sides[:3] == ["", "test", "test"]
    assert [(n.side, n.by) for n in found.bridges[0].neighbours] == [("train", "user"), ("test", "conversation")]
    later = split(chain, ASKED, go_on(first_night[1], found, ASKED))
    assert later.sides == ["", "test", "test"]


def test_what_only_a_bridge_tied_together_is_dealt_apart(first_night: tuple[list[Row], Ledger]) -> None:
    trained, tested = on(first_night, "train"), on(first_night, "test")
    words = "quite another matter of lost keys and doors"
    bridge = Row(trained.row_id, "d" * 64, 1, trained.messages, user=tested.user, conversation="new")
    found = split([bridge, row(2, words, conversation="new"), row(3, words + "!")], ASKED, first_night[1])
    assert found.sides[0] == "" and found.sides[1] == found.sides[2] != ""
    assert len({entry.group for entry in found.entries}) == 1


def test_rows_that_stand_in_the_ledger_are_not_looked_at_again(first_night: tuple[list[Row], Ledger]) -> None:
    rows, ledger = first_night
    blank = [Row(r.row_id, r.source, r.line, (), r.conversation, r.user) for r in rows]
    assert fresh(blank, ASKED, ledger) == []
    found = split(blank, ASKED, ledger)
    assert found.entries == [] and found.sides == [side_of(ledger, each) for each in rows]


def test_a_wider_grouping_leaves_out_old_rows_that_it_finds_on_two_sides() -> None:
    rows = [row(i, user=f"u{i}") for i in range(20)]
    narrow = SplitSettings(by_user=False)
    ledger = go_on(Ledger(), split(rows, narrow), narrow)
    trained = next(each for each in rows if side_of(ledger, each) == "train")
    tested = next(each for each in rows if side_of(ledger, each) == "test")
    more = [Row(tested.row_id, "e" * 64, 1, tested.messages, user="u99"), row(50, user="u99")]
    ledger = go_on(ledger, split(more, narrow, ledger), narrow)
    same_user = row(60, user=trained.user)
    ledger = go_on(ledger, split([*rows, same_user], narrow, ledger), narrow)
    found = split([*rows, *more, same_user], ASKED, ledger)
    kept = {r.user for r, side in zip([*rows, *more, same_user], found.sides, strict=True) if side}
    apart = side_of(ledger, same_user) != "train"
    assert (trained.user in kept) is not apart
    assert found.certificate.ledger.grouping.by_user is False


def test_a_narrower_grouping_never_hides_what_a_night_kept_apart() -> None:
    wide, narrow = SplitSettings(group_threshold=0.4), SplitSettings(group_threshold=0.7)
    rows = [row(i) for i in range(20)]
    ledger = go_on(Ledger(), split(rows, wide), wide)
    assert fresh(rows, narrow, ledger) == []
    ledger = go_on(ledger, split(rows, narrow, ledger), narrow)
    assert fresh(rows, wide, ledger) == list(range(20))


def test_new_groups_make_up_for_what_joined_one_side(first_night: tuple[list[Row], Ledger]) -> None:
    trained = on(first_night, "train")
    grown = [row(i, user=trained.user) for i in range(100, 110)]
    found = split([*grown, *(row(i) for i in range(200, 270))], ASKED, first_night[1])
    assert found.certificate.ledger.rows == {"train": 80, "validation": 10, "test": 10}
    assert found.certificate.ledger.off_by == 0


def test_a_night_that_only_feeds_train_stops_with_the_shares(first_night: tuple[list[Row], Ledger]) -> None:
    users = [each.user for each in first_night[0] if side_of(first_night[1], each) == "train"]
    with pytest.raises(DataError, match=r"16 of 100 rows of 2 nights .*: train 96.0% \(asked 80%\), validation 2.0%"):
        split([row(i, user=users[i % 16]) for i in range(100, 180)], ASKED, first_night[1])


def test_a_night_after_a_change_of_the_shares_moves_towards_them(first_night: tuple[list[Row], Ledger]) -> None:
    asked = SplitSettings(train=0.4, validation=0.3, test=0.3)
    found = split([row(i) for i in range(100, 110)], asked, first_night[1])
    assert found.certificate.ledger.rows == {"train": 16, "validation": 7, "test": 7}


def test_hash_seeds_of_python_change_no_side() -> None:
    script = """
from random import Random
from tests.splits.conftest import a_night, nights
from tunemill.artifacts import digest_of
from tunemill.splits import SplitSettings
import msgspec
draw = Random(11)
found, ledger = nights([a_night(draw, night, 60) for night in range(5)], SplitSettings())
print(digest_of([msgspec.to_builtins(x) for dealt in found for x in (dealt.entries, dealt.bridges, dealt.certificate)]))
"""
    said = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{PROJECT}/src:{PROJECT}"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(said[0]) == 33 and said[0] == said[1]
