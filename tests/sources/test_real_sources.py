"""Real files, whole: how many rows they give, and which records they do not."""

import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest

from tunemill.rows import Rejected, Row
from tunemill.sources import FileCounts, read
from tunemill.sources.settings import IngestSettings

DATA = Path(os.environ.get("TUNEMILL_REAL_DATA") or Path(__file__).parents[2] / "../shared/data")


def read_real(name: str, **settings: object) -> tuple[list[Row], list[Rejected], FileCounts]:
    """Read one of the files, or skip where it is not there."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not in TUNEMILL_REAL_DATA")
    counts = FileCounts()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    found = list(read(path, digest, IngestSettings.model_validate({"files": name, **settings}), counts))
    rows = [outcome for outcome in found if isinstance(outcome, Row)]
    return rows, [outcome for outcome in found if isinstance(outcome, Rejected)], counts


def test_banking77_gives_10003_rows_and_rejects_none():
    rows, rejected, counts = read_real("banking77/train.csv", map={"prompt": "text", "answer": "category"})
    assert (len(rows), len(rejected), counts) == (10_003, 0, FileCounts(records=10_003))
    assert len({row.answer for row in rows}) == 77


def test_banking77_has_records_of_several_lines_and_ends_on_its_last_line():
    rows, _, _ = read_real("banking77/train.csv", map={"prompt": "text", "answer": "category"})
    assert sum("\n" in row.messages[0].content for row in rows) > 0
    assert 10_004 < rows[-1].line <= 10_017


def test_gsm8k_gives_1319_rows_through_a_map():
    rows, rejected, _ = read_real("gsm8k/test.jsonl", map={"prompt": "question", "answer": "answer"})
    assert (len(rows), len(rejected), all("#### " in row.answer for row in rows)) == (1_319, 0, True)


def test_gsm8k_without_a_map_has_no_known_shape():
    rows, rejected, _ = read_real("gsm8k/test.jsonl")
    assert (len(rows), Counter(r.reason for r in rejected)) == (0, {"no known shape": 1_319})


def test_the_llamafactory_demo_gives_500_chats_of_2_turns():
    rows, rejected, _ = read_real("llamafactory-demo/v1_sft_demo.jsonl")
    assert (len(rows), len(rejected), {len(row.messages) for row in rows}) == (500, 0, {2})


def test_bitext_loses_its_byte_order_mark_and_no_row():
    rows, rejected, counts = read_real(
        "bitext-support/20000-Utterances-Bitext-sample.csv", map={"prompt": "utterance", "answer": "intent"}
    )
    assert (len(rows), len(rejected), counts.boms) == (21_534, 0, 1)


def test_sharegpt_arrays_are_rejected_element_by_element():
    rows, rejected, counts = read_real("llamafactory-demo/dpo_en_demo.json")
    assert (len(rows), Counter(r.reason for r in rejected), counts.cut_short) == (0, {"no known shape": 300}, "")


def test_the_kto_array_gives_300_rows_at_rising_lines():
    rows, rejected, _ = read_real("llamafactory-demo/kto_en_demo.json")
    assert (len(rows), len(rejected)) == (300, 0)
    assert [row.line for row in rows] == sorted({row.line for row in rows})
