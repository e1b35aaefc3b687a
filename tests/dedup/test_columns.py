"""What is read from columns is what rows would have said."""

from random import Random

import msgspec
import pyarrow as pa

from tests.dedup.conftest import as_columns
from tests.dedup.test_nights import planted
from tunemill import rows
from tunemill.dedup.columns import _special, columns_of, text_hash
from tunemill.dedup.contradictions import answered, asked_of
from tunemill.dedup.text import conversation_text, normalise
from tunemill.rows import Message, Row, make_row

LETTERS = " \t\n\x1c!?._-aB9\u00e9\u03a3\u03c3\ufb01\u0301\u200d\u6211\u0939\u093f\U0001f600\uff29"


def drawn(draw: Random) -> list[Row]:
    """Draw rows of turns in every order, many without a letter, empty or beyond ASCII."""
    roles = ("system", "user", "assistant", "tool")
    return [
        make_row(
            [
                Message(draw.choice(roles), "".join(draw.choice(LETTERS) for _ in range(draw.randrange(7))))
                for _ in range(draw.randrange(6))
            ],
            "a" * 64,
            line,
        )
        for line in range(2_000)
    ]


def calling(draw: Random) -> list[Row]:
    """Draw rows that are offered tools or not, with and without calls among and at the end of their turns."""
    calls = [None, *(f'[{{"id":"call00001","name":"add","arguments":{{"n":{n}}}}}]' for n in (5, -5))]
    offered = [None, *(f'[{{"type":"function","function":{{"name":"{name}"}}}}]' for name in ("add", "find"))]
    return [
        make_row(
            [
                Message("user", "Add it, please"),
                Message("assistant", draw.choice(("", "One moment.")), draw.choice(calls)),
                Message("tool", "3", '{"id":"call00001","name":"add"}'),
                Message("assistant", draw.choice(("", "Done")), draw.choice(calls)),
            ],
            "c" * 64,
            line,
            tools=draw.choice(offered),
        )
        for line in range(200)
    ]


def test_rows_that_differ_in_a_call_or_in_the_tools_offered_alone_have_hashes_of_their_own() -> None:
    found = as_columns(calling(Random(5))).arrays
    assert (len(set(found["prompt"].tolist())), len(set(found["answer"].tolist()))) == (18, 6)


def test_texts_and_hashes_are_those_of_the_rows() -> None:
    some = drawn(Random(1)) + planted(Random(2), 500) + calling(Random(5))
    found = as_columns(some)
    texts = [found.texts[a:b].tobytes().decode() for a, b in zip(found.offsets, found.offsets[1:], strict=False)]
    assert texts == [normalise(conversation_text(row)) for row in some]
    asked = [asked_of(row) for row in some]
    assert found.arrays["prompt"].tolist() == [text_hash(text) if text else 0 for text in asked]
    assert found.arrays["answer"].tolist() == [text_hash(answered(row)) for row in some]
    assert 100 < sum(not text for text in asked) < 1_900


def test_places_are_those_of_the_rows() -> None:
    some = planted(Random(3), 400)
    found = as_columns(some).arrays
    assert [time.decode() for time in found["time"].tolist()] == [row.time or "" for row in some]
    assert [row_id.decode() for row_id in found["row_id"].tolist()] == [row.row_id for row in some]
    assert found["line"].tolist() == [row.line for row in some]
    assert found["at"].tolist() == list(range(400))


def test_of_no_rows_every_column_is_empty() -> None:
    found = as_columns([])
    assert {column.size for column in found.arrays.values()} == {0}
    assert (found.offsets.tolist(), found.sources, found.tables) == ([0], [], ["0.parquet"])


def test_rows_with_a_turn_that_says_more_than_its_content_are_read_by_their_own_account() -> None:
    some = planted(Random(4), 50)
    said = [msgspec.to_builtins(row) for row in some]
    for row in said[::3]:
        row["messages"][-1]["name"] = "clerk"
    turn = pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.string())])
    kinds = [field.with_type(pa.list_(turn)) if field.name == "messages" else field for field in rows.schema()]
    found, plain = columns_of({"0.parquet": pa.Table.from_pylist(said, schema=pa.schema(kinds))}), as_columns(some)
    assert _special(pa.Table.from_pylist(said, schema=pa.schema(kinds)).to_batches()[0]).tolist() == list(
        range(0, 50, 3)
    )
    assert found.texts.tobytes() == plain.texts.tobytes()
    assert {name: column.tolist() for name, column in found.arrays.items()} == {
        name: column.tolist() for name, column in plain.arrays.items()
    }
