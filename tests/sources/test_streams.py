"""Packed files: what is read before the damage is kept, and the damage is said."""

import gzip
import json
import tracemalloc

import pytest
import zstandard

from tunemill.errors import DataError
from tunemill.sources import detect
from tunemill.sources.streams import lines

GOOD = b'{"prompt":"Hi","completion":"Hello"}\n'
VARIED = b"".join(b'{"prompt":"%d","completion":"%d"}\n' % (i, i * i * 7919) for i in range(50_000))


def test_a_packed_file_gives_the_rows_of_the_plain_one(reading):
    assert reading("a.jsonl.gz", gzip.compress(VARIED)).rows == reading("a.jsonl", VARIED).rows


def test_packed_csv_and_packed_arrays_are_read(reading):
    table = reading("a.csv.gz", gzip.compress(b"prompt,completion\n1,2\n"))
    array = reading("a.json.gz", gzip.compress(b"[" + GOOD + b"]"))
    assert (len(table.rows), len(array.rows)) == (1, 1)


def test_packed_bytes_are_known_by_their_first_2_bytes_and_not_by_the_name(reading):
    assert len(reading("a.jsonl", gzip.compress(GOOD)).rows) == 1
    assert len(reading("b.jsonl.gz", GOOD).rows) == 1


def test_2_packed_parts_in_one_file_are_read_as_one(reading):
    assert len(reading("a.jsonl.gz", gzip.compress(GOOD) + gzip.compress(GOOD)).rows) == 2


def test_a_packed_file_cut_in_the_middle_keeps_the_rows_before_and_names_the_line(reading):
    packed = gzip.compress(VARIED)
    got = reading("a.jsonl.gz", packed[: len(packed) // 2])
    assert 20_000 < len(got.rows) < 30_000
    assert got.reasons == [(len(got.rows) + 1, "broken gzip")]
    assert (got.counts.cut_short, "the rest is lost" in got.rejected[0].detail) == ("broken gzip", True)


@pytest.mark.parametrize("name", ["a.json.gz", "a.csv.gz"])
def test_a_packed_array_or_table_cut_in_the_middle_says_so_after_the_rows_before(reading, name):
    rows = VARIED.splitlines()
    table = b"".join(b"%d,%d\n" % (i, i * i * 7919) for i in range(50_000))
    plain = b"[" + b",\n".join(rows) + b"]" if "json" in name else b"prompt,completion\n" + table
    packed = gzip.compress(plain)
    got = reading(name, packed[: len(packed) // 2])
    lines_before = len(got.rows) + (1 if "json" in name else 2)
    assert len(got.rows) > 1_000
    assert got.reasons == [(lines_before, "broken gzip")]


def test_a_wrong_checksum_is_said_after_the_rows(reading):
    packed = bytearray(gzip.compress(GOOD * 3))
    packed[-8] ^= 1
    got = reading("a.jsonl.gz", bytes(packed))
    assert (len(got.rows), got.reasons) == (3, [(4, "broken gzip")])


def test_a_packed_file_of_two_bytes_is_broken_and_not_an_error(reading):
    assert reading("a.json.gz", b"\x1f\x8b").reasons == [(1, "broken gzip")]


def test_100_mib_of_blanks_packed_1000_to_1_are_not_unpacked(reading):
    got = reading("a.jsonl.gz", gzip.compress(GOOD + b" " * (100 << 20)))
    assert (len(got.rows), got.reasons) == (1, [(2, "gzip bomb")])
    assert len(got.rejected[0].text) == 2_000


def test_half_a_mib_packed_300_to_1_is_no_bomb(reading):
    data = GOOD * 14_000
    packed = gzip.compress(data)
    assert (len(data) > 500_000, len(data) / len(packed) > 200) == (True, True)
    assert len(reading("a.jsonl.gz", packed).rows) == 14_000


def zstd(data: bytes, **more: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, **more)
    return zstandard.ZstdCompressor(compression_params=parameters).compress(data)


def test_a_log_whose_long_prompt_is_always_the_same_is_no_bomb(reading):
    prompt = 20 * "".join(f"{n}: class {n * 7919 % 1_000_003}\n" for n in range(200))
    lines = (json.dumps({"prompt": f"{prompt}{n}", "completion": f"{n}"}).encode() for n in range(400))
    packed = gzip.compress(data := b"\n".join(lines))
    assert len(data) / len(packed) > 100
    assert len(reading("a.jsonl.gz", packed).rows) == 400
    assert len(data) / len(zstd(data)) > 500
    assert len(reading("a.jsonl.zst", zstd(data)).rows) == 400


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.jsonl", "a.jsonl.gz"])
def test_a_zstandard_file_gives_the_rows_of_the_plain_one_whatever_its_name(reading, name):
    assert reading(name, zstd(VARIED)).rows == reading("plain.jsonl", VARIED).rows


def test_zstandard_arrays_and_tables_are_read(reading):
    assert len(reading("a.json.zst", zstd(b"[" + GOOD + b"]")).rows) == 1
    assert len(reading("a.csv.zst", zstd(b"prompt,completion\n1,2\n")).rows) == 1


def test_zstandard_frames_and_frames_to_be_skipped_are_read_as_one_file(reading):
    skipped = b"\x53\x2a\x4d\x18\x04\x00\x00\x00seek"
    packed = skipped + zstd(GOOD) + skipped + zstd(GOOD * 2) + skipped
    got = reading("a.jsonl.zst", packed)
    assert (len(got.rows), got.rejected) == (3, [])


@pytest.mark.parametrize("kept", [1_000, 5_000, 100_000])
def test_a_zstandard_file_cut_anywhere_keeps_the_rows_before_and_says_so(reading, kept):
    packed = zstd(VARIED)[:kept]
    got = reading("a.jsonl.zst", packed)
    assert got.reasons == [(len(got.rows) + 1, "broken zstandard")]
    assert got.counts.cut_short == "broken zstandard"


def test_a_damaged_zstandard_block_costs_what_follows_it(reading):
    packed = bytearray(zstd(VARIED, write_checksum=1))
    packed[len(packed) // 2] ^= 0xFF
    got = reading("a.jsonl.zst", bytes(packed))
    assert (len(got.rows) > 10_000, got.rejected[-1].reason) == (True, "broken zstandard")


@pytest.mark.parametrize(("log", "reasons"), [(27, []), (28, [(1, "broken zstandard")])])
def test_a_window_of_128_mib_is_unpacked_and_one_of_256_mib_is_not(reading, log, reasons):
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=log)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    assert reading("a.jsonl.zst", packer.compress(GOOD) + packer.flush()).reasons == reasons


def test_1_gib_of_blanks_in_zstandard_is_not_unpacked(reading):
    packer = zstandard.ZstdCompressor(level=3).compressobj()
    packed = packer.compress(GOOD) + b"".join(packer.compress(b" " * (1 << 20)) for _ in range(1_024)) + packer.flush()
    got = reading("a.jsonl.zst", packed)
    assert (len(packed) < 50_000, len(got.rows), got.reasons) == (True, 1, [(2, "zstandard bomb")])


def test_a_line_of_64_mib_is_read_with_less_than_8_mib_of_memory():
    tracemalloc.start()
    found = list(lines((b"x" * (1 << 20) for _ in range(64)), 1_000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert ([(number, len(raw)) for number, raw in found], peak < 8 << 20) == ([(1, 1_001)], True)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.jsonl", b"[1]", "jsonl"),
        ("a.NDJSON", b"", "jsonl"),
        ("a.json", b" \n[1]", "json"),
        ("a.json", b"\xef\xbb\xbf[1]", "json"),
        ("a.json", b'{"a":1}\n{"a":2}', "jsonl"),
        ("a.json", b"hello", "jsonl"),
        ("a.csv", b"[1]", "csv"),
        ("a.tsv.gz", b"a\tb", "csv"),
        ("a.log", b'{"a":1}', "jsonl"),
        ("a", b"[1]", "json"),
        ("a.txt", b"", "jsonl"),
    ],
)
def test_the_ending_tells_the_format_and_the_first_byte_where_it_does_not(tmp_path, name, data, expected):
    (tmp_path / name).write_bytes(data)
    assert detect(tmp_path / name) == expected


def test_a_text_file_without_a_known_ending_stops_with_its_name_and_the_way_out(reading, tmp_path):
    with pytest.raises(DataError, match=r"notes\.txt  cannot tell the format.*`\.txt`") as stopped:
        reading("notes.txt", b"hello")
    assert "jsonl, json, csv" in str(stopped.value)
