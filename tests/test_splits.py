import hashlib
import random

import numpy as np
import pytest

from tests.dedup.conftest import banking_rows, deduplicate
from tunemill.dedup.crossings import Crossings
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.errors import DataError
from tunemill.rows import Message, Row, make_row
from tunemill.splits import SIDES, Certificate, Entry, Grouping, Ledger, SplitSettings, split
from tunemill.splits.certificate import Stand, certificate
from tunemill.splits.columns import Columns
from tunemill.splits.dealing import deal
from tunemill.splits.grouping import Newcomers, texts_of
from tunemill.splits.rounds import certified, searched

Parts = dict[str, list[Row]]


@pytest.fixture(scope="module")
def banking() -> list[Row]:
    return deduplicate(banking_rows(), DeduplicateSettings()).kept


@pytest.fixture(scope="module")
def dealt(banking: list[Row]) -> tuple[Parts, Certificate]:
    return parted(banking, SplitSettings())


def parted(rows: list[Row], settings: SplitSettings) -> tuple[Parts, Certificate]:
    """Split rows of one night, and put those of each side together."""
    found = split(rows, settings)
    named = sorted(zip(rows, found.sides, strict=True), key=lambda one: (one[0].place, one[0].row_id))
    return {side: [row for row, own in named if own == side] for side in SIDES}, found.certificate


def crossed(rows: list[Row], sides: list[str], threshold: float) -> Crossings:
    return searched(
        newcomers(rows, SplitSettings(group_threshold=threshold)),
        np.array([SIDES.index(side) for side in sides]),
        Ledger(),
    )


def newcomers(rows: list[Row], settings: SplitSettings) -> Newcomers:
    return Newcomers(Columns.of(rows), texts_of(rows), settings)


def row(number: int, text: str = "", source: str = "a", **known: str) -> Row:
    asked = text or hashlib.sha256(str(number).encode()).hexdigest()
    return make_row([Message("user", asked), Message("assistant", f"answer {number}")], source * 64, number, **known)


def test_1000_single_rows_give_exactly_800_100_100() -> None:
    _, found = parted([row(i) for i in range(1000)], SplitSettings())
    assert found.rows == {"train": 800, "validation": 100, "test": 100}
    assert found.leaks == 0


def test_the_order_of_rows_and_files_changes_no_side() -> None:
    rows = [row(i) for i in range(200)]
    shuffled = rows[:]
    random.Random(1).shuffle(shuffled)
    first, _ = parted(rows, SplitSettings())
    second, _ = parted(shuffled, SplitSettings())
    assert first == second


def test_a_conversation_stands_on_one_side() -> None:
    rows = [row(i, conversation=f"c{i // 10}") for i in range(300)]
    parts, found = parted(rows, SplitSettings())
    sides = [{r.conversation for r in part} for part in parts.values()]
    assert found.shared_conversations == 0
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_the_check_sees_a_twin_that_was_put_on_the_other_side() -> None:
    rows = [row(0, "where is my parcel with the red spade"), row(1, "where is my parcel with the red spades")]
    found = crossed(rows, ["train", "test"], 0.5)
    assert len(found.pairs.left) == 1
    assert found.highest is not None and found.highest > 0.8


def test_shares_that_do_not_add_up_are_refused_with_their_sum() -> None:
    with pytest.raises(ValueError, match=r"shares add up to 1\.1, not 1"):
        SplitSettings(train=0.9)


def test_10_single_rows_give_exactly_8_1_1() -> None:
    _, found = parted([row(i) for i in range(10)], SplitSettings())
    assert found.rows == {"train": 8, "validation": 1, "test": 1}


def test_three_rows_fill_three_sides() -> None:
    _, found = parted([row(i) for i in range(3)], SplitSettings())
    assert found.rows == {"train": 1, "validation": 1, "test": 1}


def test_another_seed_deals_otherwise() -> None:
    rows = [row(i) for i in range(100)]
    assert parted(rows, SplitSettings(seed=1))[0] != parted(rows, SplitSettings(seed=2))[0]


def test_a_user_stands_on_one_side_unless_users_are_not_asked_for() -> None:
    rows = [row(i, user=f"u{i // 5}") for i in range(100)]
    assert parted(rows, SplitSettings())[1].groups == {"train": 16, "validation": 2, "test": 2}
    assert sum(parted(rows, SplitSettings(by_user=False))[1].groups.values()) == 100


def test_links_of_different_kinds_join_one_group() -> None:
    rows = [row(0, user="u"), row(1, user="u", conversation="c"), row(2, "where is my red card", conversation="c")]
    rows += [row(3, "Where is my red card?"), row(4)]
    assert newcomers(rows, SplitSettings()).groups().tolist() == [0, 0, 0, 0, 4]


def test_rows_without_a_prompt_are_no_group() -> None:
    rows = [make_row([Message("assistant", f"Note {i}.")], "a" * 64, i) for i in range(30)]
    assert parted(rows, SplitSettings())[1].groups == {"train": 24, "validation": 3, "test": 3}


def test_the_same_row_in_two_files_goes_to_one_side() -> None:
    rows = [make_row([Message("assistant", f"Note {i}.")], source * 64, i) for i in range(50) for source in "ab"]
    assert parted(rows, SplitSettings())[1].shared_rows == 0


def test_the_same_rows_under_other_lines_go_to_the_same_sides() -> None:
    rows = [row(i) for i in range(200)]
    moved = [make_row(r.messages, "f" * 64, 1_000 - r.line) for r in rows]
    one, other = (parted(part, SplitSettings())[0] for part in (rows, moved))
    assert [{r.row_id for r in one[side]} for side in SIDES] == [{r.row_id for r in other[side]} for side in SIDES]


def test_a_group_of_95_rows_of_100_is_refused_with_the_numbers() -> None:
    rows = [row(i, user="u" if i < 95 else None) for i in range(100)]
    with pytest.raises(
        DataError, match=r"train would get 9[0-9]% of 100 rows, not 80%: 6 groups, the largest of 95 rows"
    ):
        parted(rows, SplitSettings())


def test_every_side_of_banking77_gets_its_share_of_what_is_asked_often(banking: list[Row]) -> None:
    labels = newcomers(banking, SplitSettings()).groups()
    sides = deal(Columns.of(banking), labels, SplitSettings())
    many = np.bincount(labels)[labels] > 1
    shares = [many[sides == side].mean() for side in range(3)]
    assert many.mean() > 0.2
    assert max(shares) - min(shares) < 0.01


def test_nothing_of_banking77_leaks(banking: list[Row], dealt: tuple[Parts, Certificate]) -> None:
    parts, found = dealt
    assert found.leaks == 0
    assert found.method == "every pair"
    assert found.highest_similarity is not None and 0.45 < found.highest_similarity < 0.5
    assert sorted(r.line for part in parts.values() for r in part) == sorted(r.line for r in banking)
    assert {side: round(count / len(banking), 3) for side, count in found.rows.items()} == {
        "train": 0.8,
        "validation": 0.1,
        "test": 0.1,
    }


def test_a_random_deal_of_banking77_leaks(banking: list[Row]) -> None:
    draw = random.Random(0)
    sides = draw.choices(SIDES, weights=(8, 1, 1), k=len(banking))
    assert len(crossed(banking, sides, 0.5).pairs.left) > 500


def test_the_certificate_counts_what_stands_on_two_sides() -> None:
    rows = [row(1, "where is my red card", user="u", conversation="c"), row(2, "where is my red car", user="u")]
    rows += [row(1, "where is my red card", conversation="c")]
    sides = ["train", "validation", "test"]
    entries = [
        Entry(r.row_id, r.source, r.line, str(i), side, "", r.conversation, r.user)
        for i, (r, side) in enumerate(zip(rows, sides, strict=True))
    ]
    ledger = Ledger().with_night(entries, Grouping.of(SplitSettings()))
    stand = Stand(np.arange(3), np.arange(3), [], Columns.of(rows), np.arange(3))
    found = certificate(stand, SplitSettings(), crossed(rows, sides, 0.5), ledger)
    assert found.cross_split_near_duplicates == 3
    assert (found.shared_users, found.shared_conversations, found.shared_rows) == (1, 1, 1)
    assert found.highest_similarity == 1.0
    assert found.leaks == 6


def twins(pairs: int) -> list[Row]:
    texts = [f"{hashlib.sha256(str(i // 2).encode()).hexdigest()} {i % 2}" for i in range(2 * pairs)]
    return [row(i, text) for i, text in enumerate(texts)]


def strangers(rows: list[Row]) -> Newcomers:
    return newcomers(rows, SplitSettings())


def test_twins_that_the_grouping_missed_are_merged_and_dealt_again() -> None:
    found = certified(strangers(twins(200)), np.arange(400), Ledger())
    assert len(found.crossed.pairs.left) == 0
    assert 200 <= len(set(found.joined.labels.tolist())) < 400


def test_twins_that_stay_apart_after_the_last_round_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunemill.splits.rounds.ROUNDS", 1)
    with pytest.raises(DataError, match=r"after dealing 1 times, the first between the rows a{12}:\d+ and a{12}:\d+"):
        certified(strangers(twins(200)), np.arange(400), Ledger())


def test_two_groups_cannot_fill_three_sides() -> None:
    with pytest.raises(DataError, match="form 2 groups"):
        parted([row(0), row(1)], SplitSettings())


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


def test_a_contradiction_is_kept_and_listed() -> None:
    long = "the same question about the opening hours of the shop on a holiday"
    one = make_row([Message("user", long), Message("assistant", "yes")], "a" * 64, 1)
    other = make_row(
        [Message("user", long), Message("assistant", " ".join(str(i * 7919) for i in range(40)))], "a" * 64, 2
    )
    found = deduplicate([one, other], DeduplicateSettings())
    assert len(found.kept) == 2
    assert [one.outcome for one in found.contradictions] == ["kept", "kept"]
