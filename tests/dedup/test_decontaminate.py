import csv
import gzip
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.dedup.conftest import DATA
from tunemill.dedup.decontaminate import Contamination, Item, contaminated, read
from tunemill.errors import DataError
from tunemill.rows import Message, Row, make_row

LONG = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
"""Twenty words."""


def row(line: int, asked: str, answer: str = "yes") -> Row:
    return make_row([Message("user", asked), Message("assistant", answer)], "a" * 64, line)


def items(folder: Path, *texts: str) -> list[Item]:
    path = folder / "bench.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps({"question": text, "answer": "72"}) for text in texts))
    return list(read(path, "b" * 64))


def found(folder: Path, rows: list[Row], *texts: str, threshold: float = 0.5) -> list[Contamination]:
    return contaminated(rows, items(folder, *texts), threshold)


def test_13_words_in_a_row_are_found_whatever_their_case_and_punctuation(tmp_path: Path) -> None:
    shared = "sold clips to 48 OF HER friends -- in April; and then she sold"
    (one,) = found(tmp_path, [row(7, f"A tale of a girl who {shared} went home to rest for a long while")], "x", LONG)
    assert (one.line, one.benchmark, one.benchmark_line, one.kind, one.words) == (7, "b" * 64, 2, "words", 13)
    assert one.text == "sold clips to 48 of her friends in april and then she sold"


def test_12_words_in_a_row_are_not_enough(tmp_path: Path) -> None:
    shared = "sold clips to 48 of her friends in April and then she"
    assert (
        found(tmp_path, [row(1, f"Something about a girl who {shared} left, nothing else to say of it all")], LONG)
        == []
    )


def test_what_an_answer_gives_away_is_found(tmp_path: Path) -> None:
    (one,) = found(tmp_path, [row(1, "Tell me a riddle", f"Here is one. {LONG}")], LONG)
    assert one.words == 20


def test_a_short_question_is_found_as_a_near_duplicate(tmp_path: Path) -> None:
    rows = [row(1, "what is the capital city of France?"), row(2, "who wrote Hamlet and when was that?")]
    (one,) = found(tmp_path, rows, "What is the capital city of France")
    assert (one.line, one.kind, one.words, one.similarity) == (1, "near-duplicate", 0, 1.0)


def test_a_label_of_a_benchmark_is_said_by_many(tmp_path: Path) -> None:
    assert found(tmp_path, [row(1, "card arrival"), row(2, "72")], "card arrival") == []


def test_no_benchmark_finds_nothing() -> None:
    assert contaminated([row(1, LONG)], [], 0.5) == []


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "tsv", "parquet", "txt", "jsonl.gz"])
def test_every_format_gives_the_same_items(tmp_path: Path, ending: str) -> None:
    records = [{"question": "What is it?", "answer": "A\nthing"}, {"question": "Who?", "answer": "Ann"}]
    path = tmp_path / f"bench.{ending}"
    if ending.startswith("jsonl"):
        data = b"\n\n".join(map(orjson.dumps, records))
        path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    elif ending == "json":
        path.write_bytes(orjson.dumps(records))
    elif ending == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif ending == "txt":
        path.write_text("What is it? A thing\n\nWho? Ann\n")
    else:
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, ["question", "answer"], delimiter="\t" if ending == "tsv" else ",")
            table.writeheader()
            table.writerows(records)
    seen = list(read(path, "c" * 64))
    assert [" ".join(item.texts) for item in seen] == ["what is it a thing", "who ann"]
    lines = {"jsonl": [1, 3], "jsonl.gz": [1, 3], "csv": [2, 4], "tsv": [2, 4], "txt": [1, 3]}
    assert [item.line for item in seen] == lines.get(ending, [1, 2])


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bench.jsonl"
    path.write_text('{"question": "Who?"}\n{"question":\n')
    with pytest.raises(DataError, match=r"bench.jsonl:2  split.benchmarks: cannot be read as jsonl"):
        list(read(path, "c" * 64))


def test_all_of_gsm8ks_test_set_is_found_in_itself_and_little_in_its_train_set() -> None:
    folder = DATA / "gsm8k"
    if not folder.is_dir():
        pytest.skip("GSM8K is not under TUNEMILL_REAL_DATA")
    known = list(read(folder / "test.jsonl", "t" * 64))
    sides = {}
    for name in ("test", "train"):
        records = map(orjson.loads, (folder / f"{name}.jsonl").read_bytes().splitlines())
        rows = [row(line, r["question"], r["answer"]) for line, r in enumerate(records, start=1)]
        sides[name] = (len(rows), len(contaminated(rows, known, 0.5)))
    print(sides)
    assert sides["test"] == (1319, 1319)
    assert 0 < sides["train"][1] < 75
