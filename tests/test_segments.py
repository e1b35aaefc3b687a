"""Reading a table that is only ever added to, and of which some rows no longer count."""

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tunemill import rows, segments
from tunemill.rows import DISLIKED, Message, PassedOver, Row, make_row


def row(number: int) -> Row:
    return make_row([Message("user", f"{number}?"), Message("assistant", str(number))], "ab" * 32, number)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two segments of 3 and 2 rows; the second row of the first, and the first of the second, no longer count."""
    segments.write(tmp_path / "rows", [row(number) for number in (1, 2, 3)])
    rows.write(tmp_path / "rows" / segments.name(1), [row(4), row(5)])
    segments.write_deleted(tmp_path / "rows", {"0000.parquet": [1], "0001.parquet": [0]})
    return tmp_path / "rows"


def test_rows_that_no_longer_count_are_not_read(table: Path) -> None:
    assert segments.read(table) == [row(1), row(3), row(5)]
    assert segments.count(table) == 3


def test_every_way_of_reading_gives_the_same_rows(table: Path) -> None:
    assert segments.table(table, ["line"]).column("line").to_pylist() == [1, 3, 5]
    assert [n for batch in segments.batches(table, ["line"]) for n in batch.column("line").to_pylist()] == [1, 3, 5]
    assert segments.table(table).column_names == rows.schema().names


def test_a_condition_finds_what_counts_and_nothing_else(table: Path) -> None:
    found = segments.table(table, ["row_id"], (pc.field("line") == 4) | (pc.field("line") == 3))
    assert found.column("row_id").to_pylist() == [row(3).row_id]


def test_a_row_beyond_the_first_8192_can_stop_counting(tmp_path: Path) -> None:
    segments.write(tmp_path / "rows", [row(number) for number in range(8_200)])
    segments.write_deleted(tmp_path / "rows", {"0000.parquet": [0, 8_195]})
    lines = [n for batch in segments.batches(tmp_path / "rows", ["line"]) for n in batch.column("line").to_pylist()]
    assert lines == [n for n in range(8_200) if n not in (0, 8_195)]


def test_a_segment_written_before_rows_had_calls_and_tools_is_read_beside_one_with_both(tmp_path: Path) -> None:
    older = {name: [value] for name, value in msgspec.to_builtins(row(1)).items() if name != "tools"}
    call = Message("assistant", "", '[{"id":"call00001","name":"find","arguments":{}}]')
    calling = make_row([Message("user", "Where?"), call], "ab" * 32, 2, tools="[]")
    (tmp_path / "rows").mkdir()
    pq.write_table(pa.table(older), tmp_path / "rows" / segments.name(0))
    rows.write(tmp_path / "rows" / segments.name(1), [calling])
    assert segments.read(tmp_path / "rows") == [row(1), calling]
    assert msgspec.convert(segments.table(tmp_path / "rows").to_pylist(), list[Row]) == [row(1), calling]


def test_where_every_row_counts_nothing_is_written_beside_them(tmp_path: Path) -> None:
    segments.write(tmp_path / "rows", [row(1)])
    segments.write_deleted(tmp_path / "rows", {})
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["0000.parquet"]


def test_a_single_file_is_a_table(tmp_path: Path) -> None:
    rows.write(tmp_path / "some.parquet", [row(1), row(2)])
    assert segments.read(tmp_path / "some.parquet") == [row(1), row(2)]


def test_records_passed_over_and_kept_apart_are_told_with_their_reason(tmp_path: Path) -> None:
    segments.write_passed(tmp_path / "passed_over", [PassedOver("ab" * 32, 7, "too early")])
    segments.write(tmp_path / "disliked", [row(9)])
    assert list(segments.set_aside(tmp_path)) == [
        PassedOver("ab" * 32, 7, "too early", ""),
        PassedOver("ab" * 32, 9, DISLIKED, "stands in disliked"),
    ]


def test_rows_that_count_are_given_with_their_positions_and_read_again_by_them(table: Path) -> None:
    found = {name: (part["line"].to_pylist(), at.tolist()) for name, part, at in segments.located(table, ["line"])}
    assert found == {"0000.parquet": ([1, 3], [0, 2]), "0001.parquet": ([5], [1])}
    places = {name: np.array(at) for name, (_, at) in found.items()}
    assert [n for part in segments.picked(table, places, ["line"]) for n in part["line"].to_pylist()] == [1, 3, 5]
    assert [part["line"].to_pylist() for part in segments.picked(table, {"0001.parquet": np.array([0])})] == [[4]]
