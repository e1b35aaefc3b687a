"""Nothing vanishes: every record is a row or a rejected record, whatever stands in it."""

import csv
import gzip
import io
import json
import random

import orjson
import pytest

from tunemill.sources import FORMATS
from tunemill.sources.json_array import _Array

PIECES = ["", " ", "a", "é", "\U0001f600", "\n", "\r", "\0", '"', "\\", ",", ":", "{}", "[1]", "\u2028", "messages"]
KEYS = ["messages", "prompt", "completion", "instruction", "input", "output", "system", "user", "time", "role", "x:y"]


def value(chance: random.Random, depth: int = 0) -> object:
    """Draw any JSON value, chats more often than chance would."""
    kind = chance.randrange(9 if depth < 3 else 6)
    if kind < 3:
        return "".join(chance.choices(PIECES, k=chance.randrange(4)))
    if kind == 6:
        roles = ["user", "assistant", "system", "tool", "gpt", 7]
        return [{"role": chance.choice(roles), "content": value(chance, 3)} for _ in range(chance.randrange(4))]
    if kind == 7:
        return [value(chance, depth + 1) for _ in range(chance.randrange(3))]
    if kind == 8:
        return record(chance, depth + 1)
    return chance.choice([None, True, 0, -7, 2**63, 1.5, 1e300, -1e18])


def record(chance: random.Random, depth: int = 0) -> dict[str, object]:
    """Draw an object with some of the known keys, one in four of them with both texts of a question."""
    if chance.random() < 0.25:
        return {"prompt": value(chance, 3), "completion": "ok", "user": value(chance, 3)}
    return {key: value(chance, depth) for key in chance.sample(KEYS, chance.randrange(5))}


def damaged(data: bytes, chance: random.Random, hits: int) -> bytes:
    """Overwrite, delete or insert that many bytes."""
    changed = bytearray(data)
    for _ in range(hits):
        at = chance.randrange(len(changed))
        changed[at : at + chance.randrange(2)] = chance.choice(
            [b'"', b"\\", b"{", b"]", b",", b"\xff", b"\0", b"\n", b""]
        )
    return bytes(changed)


def test_5000_random_values_in_jsonl_give_5000_outcomes(reading):
    chance = random.Random(1)
    data = [json.dumps(value(chance) if i % 3 else record(chance)).encode() for i in range(5_000)]
    got = reading("a.jsonl", b"\n".join(data))
    assert [found.line for found in got.all] == list(range(1, 5_001))
    assert (len(got.rows) > 100, len(got.rejected) > 1_000) == (True, True)


@pytest.mark.parametrize("chunk", [1, 50, 4_096])
def test_3000_random_values_in_an_array_are_cut_as_they_were_written(chunk):
    chance = random.Random(2)
    parts = [json.dumps(value(chance), indent=chance.choice([None, 1])).encode() for _ in range(3_000)]
    data = b"[" + b" ,\n".join(parts) + b"]"
    array = _Array(1 << 20)
    cut = [raw for at in range(0, len(data), chunk) for _, raw in array.feed(data[at : at + chunk])]
    array.close()
    assert [raw.rstrip() for raw in cut] == parts


def test_3000_random_records_in_csv_give_3000_outcomes(reading):
    chance = random.Random(3)
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(["prompt", "completion", "user"])
    fields = [
        ["".join(chance.choices(PIECES, k=3)) for _ in range(chance.choice([2, 3, 3, 3, 4]))] for _ in range(3_000)
    ]
    writer.writerows(fields)
    got = reading("a.csv", text.getvalue().encode())
    assert (len(got.all), got.counts.blank_lines) == (3_000, 0)
    assert len(got.rows) > 500


def test_2000_damaged_lines_give_an_outcome_for_each_line_that_is_not_blank(reading):
    chance = random.Random(4)
    lines = [json.dumps({"prompt": value(chance, 3), "completion": "ok"}).encode() for _ in range(2_000)]
    data = damaged(b"\r\n".join(lines), chance, 1_500)
    got = reading("a.jsonl", data)
    assert [found.line for found in got.all] == [n for n, line in enumerate(data.split(b"\n"), 1) if line.strip()]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("packed", [False, True])
def test_200_damaged_files_never_raise_and_every_rejected_record_can_be_written(reading, form, packed):
    chance = random.Random(5)
    for _ in range(200):
        records = [json.dumps(record(chance)).encode() for _ in range(6)]
        plain = {"jsonl": b"\n".join(records), "json": b"[" + b",\n".join(records) + b"]"}
        data = plain.get(form) or b"prompt,completion\n" + b"\n".join(b'"%d\n",x' % i for i in range(6))
        whole = gzip.compress(data) if packed else data
        got = reading("any", damaged(whole, chance, 4), format=form, max_line_bytes=chance.choice([40, 10_000]))
        assert all(found.line >= 1 for found in got.all)
        assert orjson.dumps([[found.reason, found.detail, found.text] for found in got.rejected])
