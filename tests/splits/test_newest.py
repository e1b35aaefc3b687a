"""Which rows a bounded training sees."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.splits.ledgers import write_ledger
from tunemill import segments
from tunemill.rows import Message, Row, make_row
from tunemill.splits.newest import newest

Write = Callable[[list[tuple[str, str]]], Path]


def row(line: int, day: str) -> Row:
    turns = [Message("user", f"{line}?"), Message("assistant", str(line))]
    return make_row(turns, "ab" * 32, line, time=f"2026-01-{day}" if day else None)


@pytest.fixture
def folder(tmp_path: Path) -> Write:
    """Write a train side with its ledger from (group, day) pairs; the lines count from 1."""

    def write(groups: list[tuple[str, str]]) -> Path:
        rows = [row(line, day) for line, (_, day) in enumerate(groups, 1)]
        segments.write(tmp_path / "train", rows)
        write_ledger(tmp_path, rows, [group for group, _ in groups])
        return tmp_path

    return write


def lines(folder: Path, most: int) -> list[int]:
    return [each.line for each in newest(folder / "train", folder, most).rows]


def test_the_group_of_the_newest_row_comes_first_and_whole(folder: Write) -> None:
    made = folder([("a", "09"), ("b", "08"), ("a", "01"), ("c", "07")])
    assert lines(made, 2) == [1, 3]
    assert lines(made, 3) == [1, 2, 3]


def test_a_group_that_is_too_large_gives_its_newest_rows(folder: Write) -> None:
    made = folder([("a", "01"), ("a", "03"), ("a", "02"), ("b", "04")])
    assert lines(made, 3) == [2, 3, 4]


def test_a_row_without_a_time_is_older_than_all_others(folder: Write) -> None:
    assert lines(folder([("a", ""), ("b", "01"), ("c", "")]), 1) == [2]


def test_a_bound_above_what_is_held_changes_nothing(folder: Write) -> None:
    made = folder([("a", "01"), ("b", "02")])
    found = newest(made / "train", made, 10)
    assert (found.rows, found.held, found.groups) == ([row(1, "01"), row(2, "02")], 2, 2)
