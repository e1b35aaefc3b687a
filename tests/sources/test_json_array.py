"""What an element of a JSON array becomes, where it stands, and when an array cannot be read on."""

import json

import pytest

from tunemill.sources import json_array, streams

GOOD = b'{"prompt":"Hi","completion":"Hello"}'
TRICKY = {"prompt": '] } , " \\ [{', "completion": 'a\\"b\\\\', "extra": {"x": [[], {}, [{"y": "]"}]]}}


@pytest.fixture(params=[1 << 20, 7, 1], ids=["chunks of 1 MiB", "of 7 bytes", "of 1 byte"])
def pieces(request, monkeypatch):
    """Feed the file in pieces of that size, so that every seam falls everywhere."""
    monkeypatch.setattr(streams, "CHUNK", request.param)


def test_an_indented_array_gives_each_element_with_the_line_where_it_begins(reading, pieces):
    got = reading("a.json", json.dumps([json.loads(GOOD)] * 3, indent=1).encode())
    assert [row.line for row in got.rows] == [2, 6, 10]


def test_brackets_quotes_and_backslashes_inside_strings_do_not_end_an_element(reading, pieces):
    got = reading("a.json", json.dumps([TRICKY, TRICKY]).encode())
    assert got.turns == [[("user", TRICKY["prompt"]), ("assistant", TRICKY["completion"])]] * 2


@pytest.mark.parametrize("data", [b"[]", b" [ \n ] \n", b"", b"  \n", b"\xef\xbb\xbf[]"])
def test_an_empty_array_or_file_has_no_records(reading, pieces, data):
    got = reading("a.json", data, format="json")
    assert (got.all, got.counts.cut_short) == ([], "")


def test_a_byte_order_mark_is_taken_off_and_counted(reading):
    got = reading("a.json", b"\xef\xbb\xbf[" + GOOD + b"]")
    assert (len(got.rows), got.counts.boms) == (1, 1)


ELEMENTS = {
    "a bare word": (b"nope", "broken JSON"),
    "a missing value": (b'{"a":}', "broken JSON"),
    "nothing": (b"", "broken JSON"),
    "a comma forgotten": (GOOD + GOOD, "broken JSON"),
    "a number": (b"12", "not an object"),
    "a list": (b"[1,[2]]", "not an object"),
    "a key twice": (b'{"a":1,"a":2}', "duplicate key"),
    "a byte 0xff": (b'{"a":"\xff"}', "invalid UTF-8"),
    "NaN": (b'{"a":NaN}', "number out of range"),
}


@pytest.mark.parametrize(("element", "reason"), ELEMENTS.values(), ids=ELEMENTS.keys())
def test_a_bad_element_costs_only_itself(reading, pieces, element, reason):
    got = reading("a.json", b"[" + b",\n".join([GOOD, element, GOOD]) + b"]")
    assert ([r for _, r in got.reasons], len(got.rows), got.counts.cut_short) == ([reason], 2, "")


def test_a_comma_before_the_closing_bracket_is_one_rejected_element(reading, pieces):
    got = reading("a.json", b"[" + GOOD + b",]")
    assert (len(got.rows), got.reasons) == (1, [(1, "broken JSON")])


LONG = {
    "many short strings": json.dumps({"a": ["ab"] * 40}).encode(),
    "one long string": json.dumps({"a": "x" * 300}).encode(),
    "a long string of backslashes": json.dumps({"a": "\\" * 151}).encode(),
    "a string that looks like an end": json.dumps({"a": '"]},' * 60}).encode(),
    "line feeds inside strings": b"[" + b",".join([b'"a\nb"'] * 40) + b"]",
    "line feeds between tokens": b"{" + b"\n" * 200 + b"}",
}


@pytest.mark.parametrize("element", LONG.values(), ids=LONG.keys())
def test_an_element_longer_than_100_bytes_is_rejected_and_the_next_ones_are_kept(reading, pieces, element):
    got = reading("a.json", b"[" + b",\n".join([GOOD, element, GOOD, GOOD]) + b"\n]", max_line_bytes=100)
    after = 3 + element.count(b"\n")
    assert (got.reasons, [row.line for row in got.rows]) == ([(2, "too long")], [1, after, after + 1])


def test_no_more_than_a_chunk_and_the_limit_is_held_of_an_element_of_2_mib(monkeypatch):
    array = json_array._Array(1_000)
    held = []
    for chunk in [b"[" + GOOD + b',{"a":"', *[b"x" * 4_096] * 512, b'"},', GOOD + b"]"]:
        list(array.feed(chunk))
        held.append(len(array._buffer))
    assert max(held) <= 4_096 + 1_000


BROKEN = {
    "ends inside an element": (b"[" + GOOD + b',\n{"prompt":"H', 1, 2),
    "ends after an element": (b"[" + GOOD + b",\n" + GOOD + b"\n", 1, 2),
    "ends after a comma": (b"[" + GOOD + b",\n", 1, 2),
    "an object closed by ]": (b"[" + GOOD + b',\n{"a":[1}\n,' + GOOD + b"]", 1, 2),
    "a string never closed": (b"[" + GOOD + b',\n{"a":"b},\n' + GOOD.replace(b'"', b"'") + b"]", 1, 2),
    "something after the end": (b"[" + GOOD + b"]\n" + GOOD, 1, 2),
    "a second array after the end": (b"[" + GOOD + b"]\n[" + GOOD + b"]", 1, 2),
    "one bracket too many": (b"[" + GOOD + b"]\n]", 1, 2),
    "an object at the top": (b'\n{"data":[' + GOOD + b"]}", 0, 2),
    "a word at the top": (b"\n\nhello", 0, 3),
    "a word before the array": (b"\nx [1]", 0, 2),
}


@pytest.mark.parametrize(("data", "kept", "line"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_array_keeps_the_rows_before_and_says_in_one_record_from_where_all_is_lost(
    reading, pieces, data, kept, line
):
    got = reading("a.json", data, format="json")
    assert (len(got.rows), got.reasons) == (kept, [(line, "broken JSON array")])
    assert (got.counts.cut_short, "lost" in got.rejected[0].detail) == ("broken JSON array", True)


def test_30_bytes_before_the_array_break_it_also_when_only_10_are_held(reading, pieces):
    got = reading("a.json", b"x" * 30 + b"[" + GOOD + b"]", format="json", max_line_bytes=10)
    assert (got.rows, got.reasons) == ([], [(1, "broken JSON array")])


def test_a_form_feed_between_elements_is_no_white_space_of_json(reading, pieces):
    got = reading("a.json", b"[" + GOOD + b",\x0c" + GOOD + b"]")
    assert (len(got.rows), got.reasons) == (1, [(1, "broken JSON")])


def test_50_000_open_brackets_end_the_reading_at_the_limit_of_1000(reading):
    got = reading("a.json", b"[" * 50_000, max_line_bytes=1_000)
    assert got.reasons == [(1, "broken JSON array")]
