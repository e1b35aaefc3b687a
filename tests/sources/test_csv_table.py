"""What a CSV record becomes: strict quotes, physical lines, nothing guessed but the separator."""

import csv
import io

import pytest

from tunemill.errors import DataError

MAP = {"prompt": "q", "answer": "a"}
HEAD = b"q,a\n"


def test_a_record_takes_its_texts_from_the_mapped_columns(reading):
    got = reading("a.csv", b"id,q,a\n7,Hi,Hello\n", map=MAP)
    assert got.turns == [[("user", "Hi"), ("assistant", "Hello")]]


def test_columns_of_a_known_shape_need_no_map(reading):
    got = reading("a.csv", b"instruction,input,output\nAdd,1 2,3\nSay,,x\n")
    assert [turns[0][1] for turns in got.turns] == ["Add\n\n1 2", "Say"]


def test_a_quoted_field_may_hold_line_feeds_quotes_and_separators(reading):
    got = reading("a.csv", HEAD + b'"a\n""b"", c\r\nd","e\n"\n', map=MAP)
    assert got.turns == [[("user", 'a\n"b", c\r\nd'), ("assistant", "e\n")]]


def test_the_line_is_the_physical_line_where_the_record_begins(reading):
    got = reading("a.csv", HEAD + b'"1\n2\n3",x\n\n5,y\n6\n"7\n",z\n', map=MAP)
    assert ([row.line for row in got.rows], got.reasons) == ([2, 6, 8], [(7, "too few columns")])


def test_a_byte_order_mark_is_no_part_of_the_first_name(reading):
    got = reading("a.csv", b"\xef\xbb\xbf" + HEAD + b"1,2\n", map=MAP)
    assert (len(got.rows), got.counts.boms) == (1, 1)


def test_carriage_returns_before_line_feeds_are_no_part_of_the_last_column(reading):
    assert reading("a.csv", b"q,a\r\n1,2\r\n", map=MAP).turns == [[("user", "1"), ("assistant", "2")]]


def test_blank_lines_before_the_header_between_and_after_are_counted(reading):
    got = reading("a.csv", b"\n \n" + HEAD + b"\n1,2\n\r\n", map=MAP)
    assert ([row.line for row in got.rows], got.counts.blank_lines) == ([5], 4)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_the_one_of_the_header(reading, separator):
    data = separator.join(["q", '"x,;|\ty"', "a"]) + "\n" + separator.join(["Hi", "1", '",;|\t"'])
    got = reading("a.csv", data.encode(), map=MAP)
    assert got.turns == [[("user", "Hi"), ("assistant", ",;|\t")]]


@pytest.mark.parametrize("data", [b"", HEAD, b"q,a", b"\n\n"])
def test_a_file_without_records_has_no_rows_and_no_rejected(reading, data):
    assert reading("a.csv", data, map=MAP).all == []


BAD = {
    "one column": (b"only", "too few columns"),
    "three columns": (b"a,b,c", "too many columns"),
    "text after a quote": (b'"a"b,c', "broken CSV"),
    "a lone carriage return": (b"a\rb,c", "broken CSV"),
    "a NUL byte": (b"a\0b,c", "NUL character"),
    "Latin-1": ("é,c".encode("latin-1"), "invalid UTF-8"),
    "Latin-1 in a quoted field of 2 lines": ('"é\nb",c'.encode("latin-1"), "invalid UTF-8"),
    "an empty answer": (b"a,", "empty answer"),
    "a blank answer": (b"a,  ", "empty answer"),
    "an empty prompt": (b",b", "empty turn"),
    "nothing but separators": (b",", "empty turn"),
}


@pytest.mark.parametrize(("record", "reason"), BAD.values(), ids=BAD.keys())
def test_a_bad_record_is_rejected_with_its_text_and_both_neighbours_are_kept(reading, record, reason):
    got = reading("a.csv", HEAD + b"1,2\n" + record + b"\n3,4\n", map=MAP)
    assert (got.reasons, len(got.rows)) == ([(3, reason)], 2)
    assert got.rejected[0].text == record.decode(errors="replace")


def test_the_bad_byte_of_a_record_is_named_with_its_physical_line(reading):
    got = reading("a.csv", HEAD + b'"x\ny\xff",z\n', map=MAP)
    assert (got.rejected[0].line, got.rejected[0].detail) == (2, "0xff at byte 2 of line 3")


def test_ragged_says_3_where_the_header_has_2(reading):
    assert reading("a.csv", HEAD + b"1,2,3\n", map=MAP).rejected[0].detail == "3 where the header has 2"


def test_a_quote_never_closed_loses_what_follows_and_says_so(reading):
    got = reading("a.csv", HEAD + b"1,2\n" + b'"open,x\n' + b"5,6\n7,8\n", map=MAP)
    assert (len(got.rows), got.reasons, got.counts.cut_short) == (1, [(3, "unclosed quote")], "unclosed quote")
    assert "line 3 to line 5, the last, is lost" in got.rejected[0].detail


def test_a_quote_closed_by_a_later_record_costs_both_and_names_their_lines(reading):
    got = reading("a.csv", HEAD + b'"open,x\n5,"six"\n7,8\n', map=MAP)
    assert (got.reasons, [row.line for row in got.rows]) == ([(2, "broken CSV")], [4])
    assert "in lines 2 to 3" in got.rejected[0].detail


def test_a_field_of_200000_characters_is_read(reading):
    got = reading("a.csv", HEAD + b"q," + b"x" * 200_000 + b"\n", map=MAP)
    assert len(got.turns[0][1][1]) == 200_000


def test_a_record_of_101_bytes_is_too_long_for_100_and_ends_the_reading(reading):
    fits, long = b"q," + b"x" * 98 + b"\n", b"q," + b"x" * 99 + b"\n"
    got = reading("a.csv", HEAD + fits + long + fits, map=MAP, max_line_bytes=100)
    assert ([row.line for row in got.rows], got.reasons) == ([2], [(3, "too long")])
    assert (got.counts.cut_short, "is lost" in got.rejected[0].detail) == ("too long", True)


def test_a_quoted_record_that_grows_over_100_bytes_ends_the_reading(reading):
    got = reading("a.csv", HEAD + b'1,2\n"' + b"3,4\n" * 50, map=MAP, max_line_bytes=100)
    assert (len(got.rows), got.reasons) == (1, [(3, "too long")])


def test_two_columns_of_one_name_reject_every_record(reading):
    got = reading("a.csv", b"q,a,a\n1,2,3\n4,5,6\n", map=MAP)
    assert got.reasons == [(2, "duplicate column"), (3, "duplicate column")]


def test_two_columns_without_a_name_are_no_duplicates(reading):
    assert len(reading("a.csv", b"q,a,,\n1,2,,\n", map=MAP).rows) == 1


@pytest.mark.parametrize("header", [b'"q"x,a\n', b"q,a\xff\n", b"q\0,a\n"], ids=["quote", "byte 0xff", "NUL"])
def test_a_header_that_cannot_be_read_rejects_each_of_2_records(reading, header):
    got = reading("a.csv", header + b"1,2\n3,4\n", map=MAP)
    assert got.reasons == [(2, "unreadable header"), (3, "unreadable header")]


def test_a_mapped_column_that_the_header_lacks_stops_with_the_names_of_both(reading, tmp_path):
    with pytest.raises(DataError) as stopped:
        reading("a.csv", b"question,answer\n1,2\n", map={"prompt": "question", "answer": "reply"})
    message = str(stopped.value)
    assert message.startswith(f"{tmp_path / 'a.csv'}:1  1 of 2 columns")
    assert all(part in message for part in ["answer: reply", "columns of the file: question, answer"])


def test_without_a_map_each_record_of_an_unknown_header_says_which_columns_it_found(reading):
    got = reading("a.csv", b"text,category\n1,2\n")
    assert got.reasons == [(2, "no known shape")]
    assert got.rejected[0].detail.startswith("found text, category; known are chosen + rejected; ")


def test_500_records_written_by_the_csv_module_come_back_as_they_were(reading):
    rows = [(f'q{i}\n"{i},', f"  {i}\r\n\t;é{chr(0x1F600 + i % 50)}") for i in range(500)]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("q", "a"), *rows])
    got = reading("a.csv", text.getvalue().encode(), map=MAP)
    assert [(turns[0][1], turns[1][1]) for turns in got.turns] == rows
