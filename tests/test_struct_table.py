"""Structs as arrow tables and back."""

import msgspec
import pyarrow as pa
import pytest

from tunemill import rows
from tunemill.rows import Message, Row, make_row
from tunemill.struct_table import structs, tables

SOURCE = "ab" * 32


class Chosen(msgspec.Struct):
    name: str
    turns: tuple[Message, ...] | None


def chosen_schema() -> pa.Schema:
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    return pa.schema([("name", pa.string()), ("turns", pa.list_(turn))])


def test_a_list_that_is_absent_and_one_that_is_empty_come_back_as_they_were() -> None:
    one = Message("user", "é 你好 \U0001f600")
    given = [Chosen("a", (one,)), Chosen("b", None), Chosen("c", ()), Chosen("d", (one, one)), Chosen("e", None)]
    (table,) = tables(given, chosen_schema(), 10)
    (batch,) = table.to_batches()
    assert list(structs(batch, Chosen, Message)) == given
    assert list(structs(batch.slice(1, 3), Chosen, Message)) == given[1:4]


@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (4, [4]), (9, [4, 4, 1])])
def test_4_records_stand_in_a_table_and_none_in_an_empty_one(count: int, sizes: list[int]) -> None:
    given = [make_row([Message("user", "Hi"), Message("assistant", str(n))], SOURCE, n) for n in range(count)]
    made = list(tables(given, rows.schema(), 4))
    assert [len(table) for table in made] == sizes
    assert [row for table in made for batch in table.to_batches() for row in structs(batch, Row, Message)] == given


def test_a_file_from_before_judgements_reads_as_rows_without_one() -> None:
    given = [make_row([Message("user", "Hi"), Message("assistant", "Hello")], SOURCE, 7)]
    (table,) = tables(given, rows.schema(), 1)
    (batch,) = table.drop_columns(["rejected", "liked"]).to_batches()
    assert list(structs(batch, Row, Message)) == given
