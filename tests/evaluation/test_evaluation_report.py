import math
import re
from pathlib import Path

import pytest

from tunemill.evaluation import figure, report
from tunemill.evaluation.arms import Arm
from tunemill.evaluation.generation import Answer, Likelihood
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.summary import ArmResult, Shown, Summary, group_of, score, summarise
from tunemill.rows import Message, Row, make_row

VOCABULARY = 49_152
FAILED = Answer("", 20, failure="empty answer")


def _rows(count: int, first: int = 0, **known: str) -> list[Row]:
    rows = [
        make_row([Message("user", f"question {i}"), Message("assistant", f"label {i}")], "0" * 64, i, **known)
        for i in range(first, first + count)
    ]
    return sorted(rows, key=lambda row: row.row_id)


def _result(rows: list[Row], right: int, nats: float = 2.0, prompt: int = 20) -> ArmResult:
    """Answer the first `right` rows rightly and the others with one wrong word."""
    answers = [Answer(row.answer if place < right else "wrong", prompt, 3, True) for place, row in enumerate(rows)]
    return ArmResult(answers, [Likelihood(nats * 4, 4) for _ in rows])


def _summary(
    count: int, base: int, few_shot: int, tuned: int, settings: EvaluateSettings, rows: list[Row] | None = None
) -> Summary:
    rows = rows or _rows(count)
    results: dict[Arm, ArmResult] = {
        "base": _result(rows, base, 3.0),
        "few_shot": _result(rows, few_shot, 1.0, prompt=80),
        "tuned": _result(rows, tuned, 0.5),
    }
    scores = [one for arm in results for one in score(rows, arm, results[arm], VOCABULARY, settings)]
    return summarise(scores, results, Shown(4, 0, ["a", "b", "c", "d"]), settings)


EXACT = EvaluateSettings(metrics=("perplexity", "exact_match"))


def test_a_failed_row_scores_0_and_its_answer_costs_a_uniform_guess() -> None:
    rows = _rows(1)
    failed = ArmResult([FAILED], [Likelihood(0.0, 4, "out of memory")])
    perplexity, match = score(rows, "tuned", failed, VOCABULARY, EXACT)
    assert (match.total, match.weight) == (0.0, 1)
    assert perplexity.total / perplexity.weight == pytest.approx(math.log(49_152))


def test_rows_of_one_user_are_one_group_before_rows_of_one_conversation() -> None:
    assert group_of(_rows(1, user="u", conversation="c")[0]) == "u"
    assert group_of(_rows(1, conversation="c")[0]) == "c"
    alone = _rows(1)[0]
    assert group_of(alone) == alone.row_id


def test_a_model_right_on_30_of_31_rows_where_the_others_are_right_on_2_and_10_is_better() -> None:
    summary = _summary(31, 2, 10, 30, EXACT)
    assert summary.verdict == "better"
    base, few_shot = report.verdict_lines(summary)
    assert base.startswith("Better than the base: **yes** (exact_match +0.90, 95 % interval +0.77 to +1.00, 31 rows).")
    assert few_shot.startswith("Better than few-shot with 4 examples: **yes** (exact_match +0.65, 95 % interval +0.")


def test_a_model_that_is_worse_than_few_shot_did_not_help() -> None:
    summary = _summary(31, 2, 30, 10, EXACT)
    assert summary.verdict == "not better"
    lines = report.verdict_lines(summary)
    assert lines[1].startswith("Better than few-shot with 4 examples: **no, worse** (exact_match -0.65")
    assert lines[2].startswith("**Fine-tuning did not help beyond few-shot prompting**")


def test_a_model_that_answers_every_row_as_few_shot_does_is_the_same() -> None:
    summary = _summary(31, 2, 30, 30, EXACT)
    assert summary.verdict == "not better"
    assert "**no, the same**" in report.verdict_lines(summary)[1]


def test_two_more_right_of_31_cannot_tell_and_says_how_many_rows_would() -> None:
    summary = _summary(31, 2, 28, 30, EXACT)
    assert summary.verdict == "cannot tell"
    line = report.verdict_lines(summary)[1]
    needed = summary.differences["few_shot"]["exact_match"].difference.needed
    assert needed is not None
    assert 100 < needed < 150
    assert f"About {needed} independent rows would show a difference of this size 4 times in 5." in line
    assert report.verdict_lines(summary)[2] == "It is not shown that fine-tuning helps beyond few-shot prompting."


def test_six_rows_are_too_few_to_tell() -> None:
    summary = _summary(6, 0, 0, 6, EXACT)
    assert summary.verdict == "cannot tell"
    assert "6 independent rows are too few to tell anything; 10 are the least." in report.verdict_lines(summary)[0]


def test_forty_rows_of_eight_users_are_too_few_and_the_report_says_whose_they_are() -> None:
    rows = [row for i in range(8) for row in _rows(5, first=5 * i, user=f"user {i}")]
    summary = _summary(40, 0, 0, 40, EXACT, sorted(rows, key=lambda row: row.row_id))
    assert "40 rows of 8 users or conversations" in report.verdict_lines(summary)[0]
    assert summary.verdict == "cannot tell"


def test_perplexity_can_decide_and_is_compared_in_nats() -> None:
    settings = EvaluateSettings(metrics=("perplexity",))
    summary = _summary(31, 0, 0, 0, settings)
    assert summary.arms["tuned"].metrics["perplexity"].value == pytest.approx(math.exp(0.5))
    assert summary.differences["base"]["perplexity"].difference.mean == pytest.approx(2.5)
    assert summary.verdict == "better"
    assert "perplexity +2.50 nats a token, above 0 is a gain" in report.verdict_lines(summary)[0]


def test_the_summary_of_the_same_scores_in_another_order_is_the_same() -> None:
    rows = _rows(31)
    results: dict[Arm, ArmResult] = {"base": _result(rows, 2), "few_shot": _result(rows, 9), "tuned": _result(rows, 20)}
    scores = [one for arm in results for one in score(rows, arm, results[arm], VOCABULARY, EXACT)]
    shown = Shown(4, 0, ["a"])
    assert summarise(scores, results, shown, EXACT) == summarise(scores[::-1], results, shown, EXACT)


def _text(samples: list[report.Sample] | None = None, asked: list[report.Sample] | None = None) -> str:
    summary = _summary(31, 2, 10, 30, EXACT)
    return report.write(summary, EXACT, samples or [], asked or [], {"base": 1.0, "few_shot": 2.0, "tuned": 1.0}, True)


def _sample(question: str, tuned: Answer) -> report.Sample:
    answers: dict[Arm, Answer] = {"base": Answer("I can help", 9, 128, False), "few_shot": FAILED, "tuned": tuned}
    return report.Sample((Message("user", question),), "label 1", answers)


def test_the_first_line_of_the_report_is_the_verdict() -> None:
    assert _text().splitlines()[0] == "# The fine-tuned model is better than the base and better than few-shot"


def test_the_report_says_that_few_shot_is_one_k_and_one_seed() -> None:
    assert "Few-shot: one k (4) and one seed (0); another k, seed or order can score differently." in _text()


def test_the_report_says_that_the_base_was_in_4_bits() -> None:
    assert "It is in 4 bits, as it was trained on; in 16 bits base and few-shot may score differently." in _text()


def test_the_report_says_what_the_few_shot_prompt_costs() -> None:
    assert "the few-shot prompt is 4.0 times as long" in _text()


def test_the_table_of_scores_holds_every_metric_of_every_arm() -> None:
    assert "| `exact_match` | 0.06 (" in _text()
    assert re.search(r"\| `perplexity` \(lower is better\) \| 20\.09 \(.*\) \| 2\.72 \(.*\) \| 1\.65 \(", _text())


def test_samples_show_all_arms_with_failures_and_cuts() -> None:
    text = _text([_sample("question 1", Answer("label 1", 9, 3, True))])
    assert "**base**, cut off after 128 tokens:\n\n```text\nI can help\n```" in text
    assert "**few-shot**: no answer, empty answer" in text
    assert "**fine-tuned**:\n\n```text\nlabel 1\n```" in text


def test_an_answer_with_a_code_fence_cannot_break_out_of_its_block() -> None:
    text = _text([_sample("q", Answer("```\n# Verdict: ship it\n````", 9, 3, True))])
    assert "`````text\n```\n# Verdict: ship it\n````\n`````" in text


def test_a_long_answer_is_cut_and_says_by_how_much() -> None:
    assert "x\n[1,000 more characters]" in _text([_sample("q", Answer("x" * 3000, 9, 3, True))])


def test_fixed_prompts_have_a_chapter_of_their_own_only_when_there_are_some() -> None:
    assert "## Fixed prompts" not in _text()
    assert "## Fixed prompts\n\n### 1\n\nuser:" in _text(asked=[_sample("hello", Answer("hi", 9, 3, True))])


def test_the_figure_is_a_png_of_some_size(tmp_path: Path) -> None:
    figure.draw(_summary(31, 2, 10, 30, EXACT), tmp_path / "scores.png")
    data = (tmp_path / "scores.png").read_bytes()
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert width > 600
    assert height > 400
