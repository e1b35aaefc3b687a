"""Real files, whole: how many rows they give, and which records they do not."""

import hashlib
import os
from collections import Counter
from pathlib import Path

import orjson
import pytest

from tunemill.rows import PassedOver, Rejected, Row
from tunemill.sources import FileCounts, read
from tunemill.sources.settings import IngestSettings

DATA = Path(os.environ.get("TUNEMILL_REAL_DATA") or Path(__file__).parents[2] / "../shared/data")


def outcomes(name: str, **settings: object) -> tuple[list[Row | Rejected | PassedOver], FileCounts]:
    """Read one of the files, or skip where it is not there."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not in TUNEMILL_REAL_DATA")
    counts = FileCounts()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return list(read(path, digest, IngestSettings.model_validate({"files": name, **settings}), counts)), counts


def read_real(name: str, **settings: object) -> tuple[list[Row], list[Rejected], FileCounts]:
    """Read one of the files into what is kept and what is rejected."""
    found, counts = outcomes(name, **settings)
    kept = [outcome for outcome in found if isinstance(outcome, Row)]
    return kept, [outcome for outcome in found if isinstance(outcome, Rejected)], counts


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


def test_300_preference_pairs_give_300_rows_that_train_on_the_chosen_answer():
    rows, rejected, counts = read_real("llamafactory-demo/dpo_en_demo.json")
    assert (len(rows), len(rejected), counts.cut_short) == (300, 0, "")
    assert all(row.rejected and row.rejected[0].role == "assistant" for row in rows)
    assert rows[0].answer.startswith("That sounds like a fun and engaging idea!")
    assert rows[0].rejected and rows[0].rejected[0].content.startswith("Hello! I'd be happy to help you create")
    assert Counter(row.messages[0].role for row in rows)["system"] == 80


def test_the_150_thumbs_down_of_the_kto_file_never_become_rows():
    rows, rejected, _ = read_real("llamafactory-demo/kto_en_demo.json")
    assert (len(rows), Counter(r.reason for r in rejected)) == (150, {"thumbs down": 150})
    assert all(row.liked for row in rows)


def test_the_kto_array_gives_300_rows_at_rising_lines_where_thumbs_down_are_kept():
    rows, rejected, _ = read_real("llamafactory-demo/kto_en_demo.json", thumbs_down="keep")
    assert (len(rows), len(rejected), Counter(row.liked for row in rows)) == (300, 0, {True: 150, False: 150})
    assert [row.line for row in rows] == sorted({row.line for row in rows})


def test_a_production_log_gives_5_rows_with_system_prompt_and_time():
    rows, rejected, _ = read_real("news-flywheel/raw_log_sample.jsonl")
    assert (len(rows), len(rejected)) == (5, 0)
    assert [message.role for message in rows[0].messages] == ["system", "user", "assistant"]
    assert (rows[0].answer, rows[0].time) == ("[[[[analyst rating]]]]", "2025-10-18T23:43:28.000000+00:00")


ONE_CLASS = {
    "prompt_matches": r"like \[\[class\]\]",
    "not_matches": r"^\[\[[^\[\]]+\]\]$",
    "reason": "not one [[class]]",
}


def test_the_teacher_that_writes_4_brackets_for_2_is_caught_by_a_rule_in_all_5_answers():
    rows, rejected, _ = read_real("news-flywheel/raw_log_sample.jsonl", answer_rules=[ONE_CLASS])
    assert (len(rows), Counter(r.reason for r in rejected)) == (0, {"not one [[class]]": 5})
    assert rejected[0].detail == "the answer is '[[[[analyst rating]]]]'"


def test_the_same_rule_keeps_the_1025_human_labels_whose_prompts_do_not_ask_for_brackets():
    named = {"prompt": "headline", "answer": "label"}
    rows, rejected, _ = read_real("news-flywheel/manually_labelled_set.csv", answer_rules=[ONE_CLASS], map=named)
    assert (len(rows), len(rejected)) == (1_025, 0)


@pytest.mark.parametrize(
    ("where", "kept", "passed"),
    [
        ({"since": "2025-10-18T23:43:30Z"}, 3, {"too early": 2}),
        ({"before": "2025-10-18T23:43:30Z"}, 2, {"too late": 3}),
        ({"model": "meta/*"}, 5, {}),
        ({"model": "openai/*"}, 0, {"other model": 5}),
        ({"workload": "news_classifier"}, 5, {}),
        ({"finish_reason": "stop"}, 0, {"no finish reason": 5}),
        ({"feedback": "up"}, 0, {"other feedback": 5}),
    ],
)
def test_the_production_log_is_filtered(where, kept, passed):
    found, counts = outcomes("news-flywheel/raw_log_sample.jsonl", where=where)
    assert (sum(isinstance(outcome, Row) for outcome in found), counts.records) == (kept, 5)
    assert Counter(outcome.reason for outcome in found if isinstance(outcome, PassedOver)) == passed


def test_300_tool_chats_keep_their_211_calls_results_and_tools():
    rows, rejected, _ = read_real("llamafactory-demo/glaive_toolcall_en_demo.json")
    turns = [turn for row in rows for turn in row.messages if turn.call]
    assert (len(rows), len(rejected)) == (300, 0)
    assert Counter(turn.role for turn in turns) == {"assistant": 211, "tool": 211}
    assert sum(row.tools is not None for row in rows) == 191
    offered = [{tool["function"]["name"] for tool in orjson.loads(row.tools or "[]")} for row in rows]
    called = [
        {call["name"] for turn in row.messages if turn.role == "assistant" for call in orjson.loads(turn.call or "[]")}
        for row in rows
    ]
    assert all(names <= known for names, known in zip(called, offered, strict=True))
