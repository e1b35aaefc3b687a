"""What a row is: its id, and what a parquet file gives back."""

from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from tunemill import rows
from tunemill.rows import Message, PassedOver, content_id, make_row

TURNS = (Message("user", "Hi"), Message("assistant", "Hello"))
WORSE = (Message("assistant", "Go away"),)


def test_the_id_of_a_row_without_a_judgement_is_what_it_was_before_judgements() -> None:
    assert content_id(TURNS) == make_row(TURNS, "ab" * 32, 1).row_id == "99c87cbcecd18c3405b9f9d79fe1b3f8"


def test_the_same_conversation_judged_in_4_ways_is_4_rows() -> None:
    judged = [make_row(TURNS, "ab" * 32, 1, rejected=worse, liked=liked) for worse, liked in JUDGEMENTS]
    assert len({row.row_id for row in judged}) == 4


def test_other_messages_give_another_id_that_the_judgement_still_enters() -> None:
    row = make_row([Message("user", " Hi"), TURNS[1]], "ab" * 32, 1, rejected=WORSE, liked=True)
    assert rows.with_messages(row, TURNS) == make_row(TURNS, "ab" * 32, 1, rejected=WORSE, liked=True)


def test_a_parquet_file_gives_back_rejected_answers_and_thumbs(tmp_path: Path) -> None:
    written = [
        make_row(TURNS, "ab" * 32, n, rejected=worse, liked=liked) for n, (worse, liked) in enumerate(JUDGEMENTS)
    ]
    assert rows.write(tmp_path / "rows.parquet", written) == 4
    assert rows.read(tmp_path / "rows.parquet") == written


def test_40000_rows_come_back_in_their_order_from_3_groups(tmp_path: Path) -> None:
    written = [make_row((Message("user", f"Hi {n}"), TURNS[1]), "ab" * 32, n) for n in range(40_000)]
    rows.write(tmp_path / "rows.parquet", written)
    assert pq.ParquetFile(tmp_path / "rows.parquet").num_row_groups == 3
    assert rows.read(tmp_path / "rows.parquet") == written


def test_a_file_of_no_row_has_the_same_columns(tmp_path: Path) -> None:
    rows.write(tmp_path / "rows.parquet", [])
    assert pq.read_schema(tmp_path / "rows.parquet").names == [*rows.Row.__struct_fields__]


def test_what_was_passed_over_stands_in_parquet_with_line_and_reason(tmp_path: Path) -> None:
    passed = [PassedOver("ab" * 32, line, "too early", "2025-01-01") for line in range(3)]
    assert rows.write_passed(tmp_path / "passed.parquet", passed) == 3
    assert pq.read_table(tmp_path / "passed.parquet").to_pylist()[2] == {
        "source": "ab" * 32, "line": 2, "reason": "too early", "detail": "2025-01-01",
    }  # fmt: skip


CALL = Message("assistant", "", '[{"id":"call00001","name":"find","arguments":{"b":1,"a":["x"]}}]')
RESULT = Message("tool", "[]", '{"id":"call00001","name":"find"}')
TOOLS = '[{"type":"function","function":{"name":"find"}}]'


def test_calls_and_tools_offered_make_another_row_and_come_back_from_parquet(tmp_path: Path) -> None:
    turns = (TURNS[0], CALL, RESULT, TURNS[1])
    bare = tuple(Message(turn.role, turn.content) for turn in turns)
    written = [make_row(said, "ab" * 32, 1, tools=tools) for said in (turns, bare) for tools in (TOOLS, None)]
    assert len({row.row_id for row in written}) == 4
    rows.write(tmp_path / "rows.parquet", written)
    assert rows.read(tmp_path / "rows.parquet") == written


def test_a_file_of_rows_without_calls_and_tools_is_still_read(tmp_path: Path) -> None:
    older = pa.table({"row_id": ["r"], "source": ["s"], "line": [1], "messages": [[{"role": "user", "content": "Hi"}]]})
    pq.write_table(older, tmp_path / "rows.parquet")
    assert rows.read(tmp_path / "rows.parquet") == [rows.Row("r", "s", 1, (TURNS[0],))]


def test_a_call_is_told_with_its_name_and_arguments_in_their_order() -> None:
    assert CALL.said == '{"name":"find","arguments":{"b":1,"a":["x"]}}'
    assert make_row([TURNS[0], msgspec.structs.replace(CALL, content="Wait.")], "s", 1).answer == (
        'Wait.\n{"name":"find","arguments":{"b":1,"a":["x"]}}'
    )


def test_other_messages_keep_the_tools() -> None:
    row = make_row([Message("user", " Hi"), CALL], "ab" * 32, 1, tools=TOOLS)
    assert rows.with_messages(row, (TURNS[0], CALL)) == make_row((TURNS[0], CALL), "ab" * 32, 1, tools=TOOLS)


JUDGEMENTS: list[tuple[tuple[Message, ...] | None, bool | None]] = [
    (None, None),
    (WORSE, None),
    (None, True),
    (None, False),
]
