"""100,000 bad records in every format: never a crash, and each one is a row, rejected, or passed over with its line."""

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tunemill.rows import PassedOver, Rejected, Row

TURN = {"role": "assistant", "content": "Hello"}
CHAT = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}, TURN]
LOG = {
    "request": {"model": "m", "messages": CHAT[:2], "tools": [], "user": "u"},
    "response": {"model": "m", "created": 1760831008, "choices": [{"message": TURN, "finish_reason": "stop"}]},
}
TREE = {"role": "prompter", "text": "Hi", "rank": None, "replies": [{"role": "assistant", "text": "x", "replies": []}]}
SHAPES: list[dict[str, Any]] = [
    {"messages": CHAT, "user": "u", "time": "2026-01-01", "label": True},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}], "system": "x"},
    {"instruction": "Add", "input": "1", "output": "2", "history": []},
    {"prompt": "Hi", "completion": "Hello", "kto_tag": True, "feedback": "up"},
    {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"},
    {"chosen": CHAT, "rejected": [*CHAT[:2], {"role": "assistant", "content": "Go"}]},
    {**LOG, "workload_id": "w", "client_id": "c", "timestamp": 1760831008, "error": None},
    {"messages": CHAT[:2], "choices": [{"message": TURN}], "status_code": 200},
    {"message_tree_id": "t", "prompt": TREE},
    TREE,
]
ODD: list[Any] = [
    *(None, True, False, 0, -1, 7, 2**63, -(2**70), 1e308, 0.5, "", " ", "\0", "\u2028", "\ud800", "x" * 300, "👎"),
    *([], {}, [[]], [None], {"role": "user"}, {"from": "gpt"}, {"content": "x"}, {"error": "boom"}, [{"replies": 7}]),
    *("assistant", "tool", "function_call", "length", "content_filter", [{"type": "text", "text": "x"}]),
]
DAMAGE = [
    b'"',
    b"\\",
    b"{",
    b"]",
    b",",
    b":",
    b"\xff",
    b"\0",
    b"\xef\xbb\xbf",
    b"NaN",
    b"1e999",
    b'"a":1,"a":2',
    b"[" * 300,
]


def spoiled(value: Any, chance: random.Random) -> Any:
    """Copy a value with about one of its parts replaced by an odd one, left out, or given another name."""
    if chance.random() < 0.12:
        return chance.choice(ODD)
    if isinstance(value, dict):
        left_out = chance.random() < 0.2 and value and chance.choice([*value])
        made = {key: spoiled(inner, chance) for key, inner in value.items() if key != left_out}
        if chance.random() < 0.1:
            made[chance.choice(["tool_calls", "weight", "replies", "label", "time", "parent_id"])] = chance.choice(ODD)
        return made
    return [spoiled(inner, chance) for inner in value] if isinstance(value, list) else value


def bad(chance: random.Random) -> bytes:
    """Write one spoiled record, a third of them with damaged bytes; it never holds a line feed."""
    record = spoiled(chance.choice(SHAPES), chance)
    data = json.dumps(record, ensure_ascii=chance.random() < 0.7).encode(errors="surrogatepass")
    for _ in range(chance.choice([0, 0, 0, 0, 1, 4])):
        at = chance.randrange(len(data))
        data = data[:at] + chance.choice(DAMAGE) + data[at + chance.randrange(3) :]
    return data


def require_whole(got: Any, records: int) -> Counter[str]:
    """Check that nothing is missing, that all of it can be written, and that each has line and reason."""
    kinds = Counter(type(one).__name__ for one in got.all)
    assert got.counts.records == len(got.all) == records == sum(kinds.values())
    lost = [one for one in got.all if not isinstance(one, Row)]
    assert all(one.reason and one.line >= 1 and one.source for one in lost)
    assert orjson.dumps([[one.reason, one.detail] for one in lost]) and orjson.dumps([r.text for r in got.rejected])
    assert orjson.dumps([[(m.role, m.content) for m in (*r.messages, *(r.rejected or ()))] for r in got.rows])
    assert not [row for row in got.rows if row.liked is False or not row.answer.strip()]
    return kinds


def test_60000_bad_lines_of_jsonl(reading: Callable[..., Any]) -> None:
    chance = random.Random(11)
    lines = [bad(chance) for _ in range(60_000)]
    where = {"since": "2020-01-01", "feedback": ["up", "none"]}
    got = reading("a.jsonl", b"\r\n".join(lines))
    kinds = require_whole(got, sum(1 for line in lines if line.removeprefix(b"\xef\xbb\xbf").strip()))
    assert (kinds["Row"] > 3_000, len({r.reason for r in got.rejected}) > 20) == (True, True)
    filtered = require_whole(reading("a.jsonl", b"\n".join(lines), where=where), got.counts.records)
    assert min(filtered[kind.__name__] for kind in (Row, Rejected, PassedOver)) > 300


def test_20000_spoiled_elements_of_an_array(reading: Callable[..., Any]) -> None:
    chance = random.Random(12)
    elements = [json.dumps(spoiled(chance.choice(SHAPES), chance)).encode() for _ in range(20_000)]
    kinds = require_whole(reading("a.json", b"[" + b",\n".join(elements) + b"]"), 20_000)
    assert kinds["Row"] > 1_000


def test_20000_odd_records_of_csv(reading: Callable[..., Any]) -> None:
    chance = random.Random(13)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["prompt", "completion", "rejected", "label", "timestamp"])
    pieces = ["Hi", "Hello", "", " ", "\0", '"', "\n", "\r\n", "\u2028", ",", "true", "false", "2026-01-01", "é"]
    for _ in range(20_000):
        writer.writerow(
            [
                "Q",
                *(
                    "".join(chance.choices(pieces, k=chance.randrange(3)))
                    for _ in range(chance.choice([3, 4, 4, 4, 5]))
                ),
            ]
        )
    kinds = require_whole(reading("a.csv", text.getvalue().encode()), 20_000)
    assert kinds["Row"] > 1_000


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_1000_files_cut_and_damaged_anywhere(reading: Callable[..., Any], name: str) -> None:
    chance, kinds = random.Random(14), Counter[str]()
    for _ in range(1_000):
        records = [bad(chance) for _ in range(3)]
        whole = {"a.jsonl": b"\n".join(records), "a.json": b"[" + b",".join(records) + b"]"}
        data = whole.get(name, b"prompt,completion\nask,answer\n" + b"\nask,answer\n".join(records))
        got = reading(name, data[: chance.randrange(len(data) + 1)])
        kinds += require_whole(got, len(got.all))
        assert all(one.line <= data.count(b"\n") + 1 for one in got.all)
    assert min(kinds["Row"], kinds["Rejected"]) > 50
