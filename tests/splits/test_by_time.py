"""The newest rows are held out, as far as their groups allow."""

from collections import Counter

import pytest

from tests.splits.conftest import go_on, row, side_of
from tunemill.errors import DataError
from tunemill.rows import Row
from tunemill.splits import ByTime, Ledger, SplitSettings, split

LAST_5_DAYS = SplitSettings(by_time=ByTime(days=5))


def day(number: int, **known: str) -> Row:
    return row(number, time=f"2026-03-{number:02}T12:00:00+00:00", **known)


MARCH = [day(number) for number in range(1, 31)]


def test_the_last_5_of_30_days_are_test_and_the_rest_is_dealt_8_to_1() -> None:
    found = split(MARCH, LAST_5_DAYS)
    assert [r.line for r, side in zip(MARCH, found.sides, strict=True) if side == "test"] == [26, 27, 28, 29, 30]
    assert found.certificate.rows == {"train": 22, "validation": 3, "test": 5}
    assert found.certificate.by_time is not None
    assert (found.certificate.by_time.recent_train_rows, found.certificate.by_time.rows_without_time) == (0, 0)


def test_a_group_with_a_row_in_the_last_days_is_test_as_a_whole() -> None:
    rows = [*MARCH[:-1], day(30, user="u"), row(50, time="2026-03-02", user="u"), row(51, user="u")]
    assert split(rows, LAST_5_DAYS).sides[-3:] == ["test"] * 3


def test_rows_without_a_time_count_as_old_and_are_counted() -> None:
    rows = [*MARCH, *(row(i) for i in range(40, 50)), row(60, time="yesterday")]
    found = split(rows, LAST_5_DAYS)
    assert "test" not in found.sides[30:]
    assert found.certificate.by_time is not None and found.certificate.by_time.rows_without_time == 11


def test_zones_are_heeded_and_a_time_without_one_is_utc() -> None:
    late = row(70, time="2026-03-26T01:00:00+14:00")  # the 25th, 11:00 in UTC
    early = row(71, time="2026-03-25T12:00:01")
    sides = split([*MARCH, late, early], LAST_5_DAYS).sides
    assert sides[-2:] != ["test", "test"] and sides[-1] == "test"


def test_without_days_the_newest_that_fill_the_share_of_test_are_held_out() -> None:
    found = split(MARCH, SplitSettings(by_time=ByTime()))
    assert [r.line for r, side in zip(MARCH, found.sides, strict=True) if side == "test"] == [28, 29, 30]
    assert found.certificate.rows == {"train": 24, "validation": 3, "test": 3}


def test_30_nights_of_new_days_do_not_all_go_to_test() -> None:
    ledger = go_on(Ledger(), split(MARCH, LAST_5_DAYS), LAST_5_DAYS)
    for night in range(30):
        rows = [row(1_000 + 10 * night + i, time=f"2026-04-{night + 1:02}T{i:02}:00:00Z") for i in range(10)]
        found = split(rows, LAST_5_DAYS, ledger)
        ledger = go_on(ledger, found, LAST_5_DAYS)
    assert Counter(ledger.entries.side) == {"train": 264, "validation": 33, "test": 33}
    assert found.sides[-1] == "test" and found.sides[0] == "train"


def test_new_rows_of_a_group_that_trains_train_and_are_counted_as_recent() -> None:
    rows = [day(number, user=f"u{number}") for number in range(1, 31)]
    ledger = go_on(Ledger(), split(rows, LAST_5_DAYS), LAST_5_DAYS)
    user = next(each.user for each in rows if side_of(ledger, each) == "train")
    later = [row(i, time="2026-03-31", user=user) for i in (80, 81)]
    found = split(later, LAST_5_DAYS, ledger)
    assert found.sides == ["train", "train"]
    assert found.certificate.by_time is not None and found.certificate.by_time.recent_train_rows == 2


def test_rows_that_all_lack_a_time_are_refused() -> None:
    with pytest.raises(DataError, match=r"no row has an ISO 8601 time; name its column in ingest\.map"):
        split([row(i) for i in range(20)], LAST_5_DAYS)


def test_days_that_leave_nothing_to_train_on_are_refused() -> None:
    with pytest.raises(DataError, match=r"30 of 30 groups are held out.*split.by_time.days"):
        split(MARCH, SplitSettings(by_time=ByTime(days=60)))
