"""What a line of JSONL becomes, and what a bad line costs: itself."""

import json

import orjson
import pytest

from tunemill.sources.strict_json import MAX_DEPTH, parse

GOOD = b'{"prompt":"Hi","completion":"Hello"}'
TURNS = [("user", "Hi"), ("assistant", "Hello")]


def with_answer(answer: bytes) -> bytes:
    return b'{"prompt":"Hi","completion":' + answer + b"}"


def test_each_of_3_lines_becomes_a_row_with_its_line_and_source(reading):
    got = reading("a.jsonl", GOOD + b"\n" + GOOD + b"\n" + GOOD + b"\n")
    assert [(row.line, row.source) for row in got.rows] == [(1, "ab" * 32), (2, "ab" * 32), (3, "ab" * 32)]


def test_a_last_line_without_line_feed_is_read(reading):
    assert [row.line for row in reading("a.jsonl", GOOD + b"\n" + GOOD).rows] == [1, 2]


def test_an_empty_file_has_no_records(reading):
    assert reading("a.jsonl", b"").all == []


def test_3_blank_lines_are_counted_and_are_no_records(reading):
    got = reading("a.jsonl", b"\n" + GOOD + b"\n  \t\n\r\n")
    assert (len(got.all), got.counts.blank_lines) == (1, 3)


def test_a_byte_order_mark_is_taken_off_and_counted(reading):
    got = reading("a.jsonl", b"\xef\xbb\xbf" + GOOD + b"\n")
    assert (got.turns, got.counts.boms) == ([TURNS], 1)


def test_byte_order_marks_of_2_joined_files_are_both_taken_off(reading):
    got = reading("a.jsonl", 2 * (b"\xef\xbb\xbf" + GOOD + b"\n"))
    assert (len(got.rows), got.counts.boms) == (2, 2)


def test_a_carriage_return_before_the_line_feed_is_no_part_of_the_record(reading):
    got = reading("a.jsonl", GOOD + b"\r\n" + b'{"a":1}' + b"\r\n")
    assert (got.turns, got.rejected[0].text) == ([TURNS], '{"a":1}')


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085", "\x0b\x0c"], ids=["2028", "2029", "0085", "vt-ff"])
def test_only_a_line_feed_ends_a_line(reading, mark):
    line = orjson.dumps({"prompt": f"a{mark}b", "completion": f"c{mark}d"})
    assert reading("a.jsonl", line + b"\n" + GOOD).turns == [
        [("user", f"a{mark}b"), ("assistant", f"c{mark}d")],
        TURNS,
    ]


def test_white_space_around_a_text_is_kept(reading):
    assert reading("a.jsonl", with_answer(b'"  x \\r\\n\\t"')).turns[0][1] == ("assistant", "  x \r\n\t")


BAD = {
    "an object that is not closed": (b'{"prompt":"Hi"', "broken JSON"),
    "a comma at the end": (b'{"prompt":"Hi","completion":"x",}', "broken JSON"),
    "two objects on a line": (GOOD + GOOD, "broken JSON"),
    "a raw tab in a string": (with_answer(b'"a\tb"'), "broken JSON"),
    "a byte 0xff": (with_answer(b'"\xff"'), "invalid UTF-8"),
    "a surrogate in UTF-8": (with_answer(b'"\xed\xa0\x80"'), "invalid UTF-8"),
    "Latin-1": ('{"prompt":"é"}'.encode("latin-1"), "invalid UTF-8"),
    "a NUL byte": (with_answer(b'"a\0b"'), "NUL character"),
    "an escaped NUL": (with_answer(b'"a\\u0000b"'), "NUL character"),
    "NaN": (with_answer(b"NaN"), "number out of range"),
    "-Infinity": (with_answer(b"-Infinity"), "number out of range"),
    "1e400": (with_answer(b"1e400"), "number out of range"),
    "a number of 5,000 digits": (with_answer(b"9" * 5_000), "number out of range"),
    "a key twice": (b'{"prompt":"Hi","completion":"a","completion":"b"}', "duplicate key"),
    "a key twice inside": (b'{"messages":[{"role":"user","role":"assistant","content":"a"}]}', "duplicate key"),
    "a key twice, once with an escape": (b'{"prompt":"Hi","completion":"a","\\u0063ompletion":"b"}', "duplicate key"),
    "a key twice beside an escaped colon": (
        b'{"prompt":"Hi","completion":"b","completion":"\\u003a"}',
        "duplicate key",
    ),
    "a lone high surrogate": (with_answer(b'"\\ud800"'), "lone surrogate"),
    "a lone low surrogate in a key": (b'{"\\udc00":1}', "lone surrogate"),
    "255 levels": (with_answer(b"[" * 254 + b"]" * 254), "nested too deep"),
    "1,100 levels": (with_answer(b"[" * 1_100 + b"]" * 1_100), "nested too deep"),
    "100,000 levels": (with_answer(b"[" * 100_000 + b"]" * 100_000), "nested too deep"),
    "a list": (b"[1,2]", "not an object"),
    "a string": (b'"text"', "not an object"),
    "null": (b"null", "not an object"),
}


@pytest.mark.parametrize(("line", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_line_is_rejected_with_its_reason_and_both_neighbours_are_kept(reading, line, reason):
    got = reading("a.jsonl", b"\n".join([GOOD, line, GOOD]))
    assert (got.reasons, [row.line for row in got.rows]) == ([(2, reason)], [1, 3])


@pytest.mark.parametrize("line", [line for line, _ in BAD.values()], ids=BAD.keys())
def test_a_rejected_line_can_be_written_as_json_and_is_cut_at_2000_characters(reading, line):
    (rejected,) = reading("a.jsonl", line).rejected
    assert rejected.text == line.decode(errors="replace")[:2_000]
    assert orjson.loads(orjson.dumps(rejected.text)) == rejected.text


def test_254_levels_are_not_too_deep():
    assert MAX_DEPTH == 254
    assert isinstance(parse(b'{"a":' + b"[" * 253 + b"]" * 253 + b"}"), dict)


def test_colons_in_texts_keys_and_escapes_are_no_duplicate_keys():
    line = b'{"a:b":": :: \\u003a \\u003A \\\\u003a","c":{"a:b":":"},"\\u003a":"\\u003c"}'
    assert parse(line) == json.loads(line)


def test_the_key_that_stands_twice_is_named(reading):
    (rejected,) = reading("a.jsonl", b'{"prompt":"Hi","completion":"a","completion":"b"}').rejected
    assert rejected.detail == "`completion` stands twice in one object"


def test_an_invalid_byte_is_named_with_its_position(reading):
    assert reading("a.jsonl", b'{"a":"\xff"}').rejected[0].detail == "0xff at byte 7"


def test_a_line_of_101_bytes_is_too_long_for_100_and_one_of_100_is_not(reading):
    fits = with_answer(b'"' + b"x" * 69 + b'"')
    long = with_answer(b'"' + b"x" * 70 + b'"')
    assert (len(fits), len(long)) == (100, 101)
    got = reading("a.jsonl", fits + b"\n" + long + b"\n" + fits, max_line_bytes=100)
    assert (got.reasons, [row.line for row in got.rows]) == ([(2, "too long")], [1, 3])


def test_a_line_longer_than_3_chunks_costs_only_itself(reading):
    got = reading("a.jsonl", GOOD + b"\n" + b"x" * (3 << 20) + b"\n" + GOOD, max_line_bytes=1_000)
    assert (got.reasons, [row.line for row in got.rows], len(got.rejected[0].text)) == ([(2, "too long")], [1, 3], 1001)
