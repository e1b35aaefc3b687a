import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tunemill.evaluation import gate
from tunemill.evaluation.arms import Arm
from tunemill.evaluation.gate import GateVerdict, decide, from_json, to_json
from tunemill.evaluation.gate_evidence import Facts, ShippedFile, StoredArm, StoredValue, Verified, read_scores
from tunemill.evaluation.gate_settings import GateSettings, check
from tunemill.evaluation.generation import Answer, Likelihood
from tunemill.evaluation.metrics import Metric
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.summary import ArmResult, Score, Shown, score, summarise
from tunemill.rows import Message, make_row, read_lines, write_lines

EVALUATE = EvaluateSettings(metrics=("exact_match", "perplexity"), resamples=1000)
Arms = Mapping[Arm, Sequence[float]]


def _scores(arms: Arms, metric: Metric = "exact_match", users: int | None = None) -> list[Score]:
    """Score row 0, 1, … of each arm; `users` deals the rows to so many users."""
    return [
        Score(f"row {i:05d}", f"user {i % users}" if users else f"row {i:05d}", arm, metric, total, 1)
        for arm, totals in arms.items()
        for i, total in enumerate(totals)
    ]


def _facts(scores: Sequence[Score], confidence: float = 0.95) -> Facts:
    """Say of the scores what their summary.json would."""
    arms: dict[str, StoredArm] = {}
    for arm in {s.arm for s in scores}:
        own = {m: [s for s in scores if (s.arm, s.metric) == (arm, m)] for m in {s.metric for s in scores}}
        values = {m: sum(s.total for s in found) / sum(s.weight for s in found) for m, found in own.items() if found}
        arms[arm] = StoredArm({m: StoredValue(math.exp(v) if m == "perplexity" else v) for m, v in values.items()})
    return Facts(len({s.row_id for s in scores}), confidence, arms)


def _verified(scores: Sequence[Score], **files: Sequence[float]) -> Verified:
    """Pass verification with one file that scores as the tuned model does, or with the files given."""
    tuned = [s for s in scores if (s.arm, s.metric) == ("tuned", "exact_match")]
    rows = tuple(s.row_id for s in tuned)
    totals = files or {"q4_k_m": [s.total for s in tuned]}
    return Verified(
        True,
        (),
        rows,
        tuple(
            ShippedFile(f"model-{name}.gguf", name, {"exact_match": dict(zip(rows, found, strict=True))})
            for name, found in totals.items()
        ),
    )


def _gate(*rules: dict[str, Any]) -> GateSettings:
    return GateSettings.model_validate({"rules": rules} if rules else {})


def _right(right: int, rows: int = 31) -> list[float]:
    return [1.0] * right + [0.0] * (rows - right)


def _decide(base: int, few_shot: int, tuned: int, *rules: dict[str, Any], rows: int = 31) -> GateVerdict:
    """Decide on so many right answers of each arm; the rows that one arm has right, a better one has right too."""
    scores = _scores({"base": _right(base, rows), "few_shot": _right(few_shot, rows), "tuned": _right(tuned, rows)})
    return decide(scores, _facts(scores), _verified(scores), _gate(*rules), EVALUATE)


BETTER = {"metric": "exact_match", "better_than": ["base", "few_shot"]}


def test_a_model_right_on_30_of_31_rows_where_the_others_are_right_on_2_and_10_is_promoted() -> None:
    verdict = _decide(2, 10, 30, {**BETTER, "at_least": 0.6})
    assert (verdict.verdict, verdict.reasons, verdict.rows, verdict.rows_needed) == ("PROMOTE", [], 31, None)
    assert [(c.name, c.subject, c.outcome) for c in verdict.checks] == [
        ("exact_match better_than base", "fine-tuned", "passed"),
        ("exact_match better_than few_shot", "fine-tuned", "passed"),
        ("exact_match at_least 0.6", "fine-tuned", "passed"),
        ("exact_match at_least 0.6", "model-q4_k_m.gguf", "passed"),
    ]


def test_without_rules_the_primary_metric_must_beat_base_and_few_shot() -> None:
    verdict = _decide(2, 10, 30)
    assert verdict.verdict == "PROMOTE"
    assert [(c.rule, c.name) for c in verdict.checks] == [
        (0, "exact_match better_than base"),
        (0, "exact_match better_than few_shot"),
    ]


def test_a_model_worse_than_few_shot_is_rejected_in_plain_words() -> None:
    verdict = _decide(2, 30, 10)
    assert verdict.verdict == "REJECT"
    (reason,) = verdict.reasons
    assert reason.startswith(
        "exact_match: few-shot prompting wins: do not ship (0.323 against 0.968, gain -0.645, 95 % interval -0."
    )
    assert reason.endswith(", 31 rows).")


@pytest.mark.parametrize(
    ("base", "few_shot", "tuned", "rule", "words"),
    [
        (2, 30, 30, BETTER, "few-shot prompting scores the same on every row: do not ship"),
        (30, 2, 30, BETTER, "not worth it: the base already does it"),
        (30, 2, 10, BETTER, "worse than the base: do not ship"),
        (2, 2, 16, {**BETTER, "by": 0.8}, "better than the base, but not by more than 0.8"),
        (
            30,
            2,
            10,
            {"metric": "exact_match", "not_worse_than": ["base"], "margin": 0.05},
            "worse than the base by more than 0.05",
        ),
        (2, 2, 10, {"metric": "exact_match", "at_least": 0.9}, "fine-tuned is not at least 0.9"),
    ],
)
def test_each_reason_to_reject_has_its_own_words(
    base: int, few_shot: int, tuned: int, rule: dict[str, Any], words: str
) -> None:
    verdict = _decide(base, few_shot, tuned, rule)
    assert verdict.verdict == "REJECT"
    assert verdict.reasons[0].startswith(f"exact_match: {words} (")


def test_every_condition_that_fails_is_a_reason() -> None:
    verdict = _decide(30, 30, 10, {**BETTER, "at_least": 0.9})
    assert len(verdict.reasons) == 4
    assert {c.outcome for c in verdict.checks} == {"failed"}


def test_two_more_right_of_31_cannot_tell_and_names_the_rows_that_would() -> None:
    verdict = _decide(2, 28, 30)
    assert verdict.verdict == "CANNOT_TELL"
    assert verdict.rows_needed is not None
    assert 120 < verdict.rows_needed < 180
    assert verdict.reasons[0].startswith("exact_match: cannot tell whether it is better than few-shot prompting (0.968")
    assert verdict.reasons[0].endswith(f"About {verdict.rows_needed} test rows would tell 4 times in 5; there are 31.")


def test_six_rows_are_too_few_to_tell_anything() -> None:
    verdict = _decide(0, 0, 6, rows=6)
    assert verdict.verdict == "CANNOT_TELL"
    assert "6 independent rows are too few to tell anything." in verdict.reasons[0]
    assert verdict.rows_needed is not None
    assert verdict.rows_needed >= 10


def test_arms_that_differ_but_are_level_can_name_no_number_of_rows() -> None:
    scores = _scores({"base": _right(0), "few_shot": _right(15, 30), "tuned": _right(15, 30)[::-1]})
    scores = [s for s in scores if s.row_id < "row 00030"]
    verdict = decide(scores, _facts(scores), _verified(scores), _gate(), EVALUATE)
    assert (verdict.verdict, verdict.rows_needed) == ("CANNOT_TELL", None)
    assert "too near to the line for a number of rows" in verdict.reasons[0]


def test_forty_rows_of_eight_users_count_as_eight() -> None:
    scores = _scores({"base": [0.0] * 40, "few_shot": [0.0] * 40, "tuned": [1.0] * 40}, users=8)
    verdict = decide(scores, _facts(scores), _verified(scores), _gate(), EVALUATE)
    assert verdict.verdict == "CANNOT_TELL"
    assert "40 rows of 8 users or conversations). 8 independent rows are too few" in verdict.reasons[0]


def test_ten_right_of_ten_do_not_show_nine_in_ten_although_their_interval_is_1_to_1() -> None:
    verdict = _decide(0, 0, 10, {"metric": "exact_match", "at_least": 0.9}, rows=10)
    found = verdict.checks[0]
    assert (found.value, found.low, found.high, found.outcome) == (1, 1, 1, "cannot tell")
    assert "would not stand with a few more rows of the best and of the worst score" in found.sentence


def test_32_equal_answers_do_not_show_a_margin_of_5_points_and_110_do() -> None:
    rule = {"metric": "exact_match", "not_worse_than": ["base"], "margin": 0.05}
    assert _decide(20, 0, 20, rule, rows=32).verdict == "CANNOT_TELL"
    assert _decide(20, 0, 20, rule, rows=110).verdict == "PROMOTE"


def test_a_margin_judges_the_distance_from_it_and_shows_the_gain_of_the_evaluation() -> None:
    plain, by = _decide(2, 10, 30), _decide(2, 10, 30, {**BETTER, "by": 0.3})
    assert by.verdict == "PROMOTE"
    assert [(c.difference, c.low, c.high) for c in by.checks] == [(c.difference, c.low, c.high) for c in plain.checks]
    assert by.checks[0].name == "exact_match better_than base by 0.3"


def test_perplexity_is_compared_in_nats_and_must_stay_below_its_bound() -> None:
    rng = np.random.default_rng(0)
    nats = {"base": rng.normal(3, 0.1, 40), "few_shot": rng.normal(1, 0.1, 40), "tuned": rng.normal(0.5, 0.1, 40)}
    scores = _scores({arm: found.tolist() for arm, found in nats.items()}, "perplexity")  # type: ignore[misc]
    verified = Verified(True, (), (), (ShippedFile("model.gguf", "f16", {}),))
    rule = {"metric": "perplexity", "better_than": ["base"], "by": 2, "at_most": 2}
    verdict = decide(scores, _facts(scores), verified, _gate(rule), EVALUATE)
    gain, value = verdict.checks
    assert (gain.outcome, value.outcome, value.subject) == ("passed", "passed", "fine-tuned")
    assert gain.difference == pytest.approx(2.5, abs=0.1)
    assert value.value == pytest.approx(math.exp(0.5), abs=0.1)
    tight = decide(scores, _facts(scores), verified, _gate({"metric": "perplexity", "at_most": 1.5}), EVALUATE)
    assert tight.reasons[0].startswith("perplexity: fine-tuned is not below 1.5 (1.")
    far = decide(scores, _facts(scores), verified, _gate({**rule, "by": 3}), EVALUATE)
    assert far.reasons[0].startswith("perplexity: better than the base, but not by more than 3 (1.")


# What ships


def test_a_file_that_falls_below_the_bound_is_rejected_where_the_model_it_was_made_from_is_not() -> None:
    scores = _scores({"base": _right(0), "few_shot": _right(0), "tuned": _right(30)})
    verified = _verified(scores, q8_0=_right(30), q4_k_m=_right(5))
    verdict = decide(scores, _facts(scores), verified, _gate({"metric": "exact_match", "at_least": 0.6}), EVALUATE)
    assert verdict.verdict == "REJECT"
    assert verdict.reasons[0].startswith("exact_match: model-q4_k_m.gguf is not at least 0.6 (0.161")
    assert [c.outcome for c in verdict.checks] == ["passed", "passed", "failed"]


def test_a_precision_that_stands_in_for_another_is_named() -> None:
    scores = _scores({"base": _right(0), "few_shot": _right(0), "tuned": _right(30)})
    (file,) = _verified(scores).files
    stands_in = msgspec.structs.replace(file, name="model-q8_0.gguf", precision="q8_0", instead_of="q4_k_m")
    verified = msgspec.structs.replace(_verified(scores), files=(stands_in,))
    verdict = decide(scores, _facts(scores), verified, _gate(), EVALUATE)
    assert orjson.loads(to_json(verdict))["files"] == [
        {"name": "model-q8_0.gguf", "precision": "q8_0", "instead_of": "q4_k_m"}
    ]
    assert "- model-q8_0.gguf (q8_0, because q4_k_m did not pass verification)" in gate.text(verdict)


def test_files_may_be_asked_a_part_of_the_rows_and_are_judged_on_that() -> None:
    scores = _scores({"base": _right(0, 60), "few_shot": _right(0, 60), "tuned": _right(58, 60)})
    rows = tuple(f"row {i:05d}" for i in range(12))
    file = ShippedFile("model.gguf", "f16", {"exact_match": dict.fromkeys(rows, 1.0)})
    rule = _gate({"metric": "exact_match", "at_least": 0.8})
    verdict = decide(scores, _facts(scores), Verified(True, (), rows, (file,)), rule, EVALUATE)
    tuned, shipped = verdict.checks
    assert (tuned.rows, tuned.outcome, shipped.rows, shipped.outcome) == (60, "passed", 12, "cannot tell")


# What cannot be judged

GOOD = _scores({"base": _right(2), "few_shot": _right(10), "tuned": _right(30)})
WITH_BOUND = {**BETTER, "at_least": 0.6}


def _change(place: int, **values: Any) -> list[Score]:
    return [msgspec.structs.replace(s, **values) if i == place else s for i, s in enumerate(GOOD)]


def _shipped(verified: Verified, **values: Any) -> Verified:
    return msgspec.structs.replace(verified, files=(msgspec.structs.replace(verified.files[0], **values),))


@pytest.mark.parametrize(
    ("scores", "facts", "reason"),
    [
        ([], _facts(GOOD), "the evaluation scored 0 test rows"),
        ([s for s in GOOD if s.arm != "few_shot"], _facts(GOOD), "no score of exact_match is stored for the arm few_s"),
        (GOOD[:-1], _facts(GOOD), "tuned lacks the score of 1 of 31 rows, first row 00030"),
        (_change(70, total=math.nan), _facts(GOOD), "tuned scored nan (weight 1) on row row 00008, which is no exact"),
        (_change(70, total=1.5), _facts(GOOD), "tuned scored 1.5 (weight 1)"),
        (_change(70, row_id="other"), _facts(GOOD), "scores.jsonl holds 32 rows and summary.json speaks of 31"),
        (_change(70, group="other"), _facts(GOOD), "row row 00008 is not the same row for tuned and base"),
        ([*GOOD, GOOD[0]], _facts(GOOD), "1 of 94 stored scores stand there twice"),
        (_change(70, total=0.0), _facts(GOOD), "the rows of tuned give 0.935484 and summary.json says 0.967742"),
        (GOOD, _facts(GOOD, 0.9), "the evaluation was made at confidence 0.9 and the configuration says 0.95"),
    ],
)
def test_scores_that_cannot_be_believed_are_invalid(scores: list[Score], facts: Facts, reason: str) -> None:
    verdict = decide(scores, facts, _verified(GOOD), _gate(WITH_BOUND), EVALUATE)
    assert (verdict.verdict, verdict.checks) == ("INVALID", [])
    assert reason in "\n".join(verdict.reasons)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"total": None, "weight": 9}, "tuned scored nan (weight 9) on row row 00000, which is no perplexity"),
        ({"total": 3.0, "weight": 0}, "tuned scored 3 (weight 0) on row row 00000"),
        ({"total": 9e9, "weight": 9}, "tuned has no finite perplexity"),
    ],
)
def test_nats_that_give_no_perplexity_are_invalid(line: dict[str, Any], reason: str) -> None:
    stored = {"row_id": "row 00000", "group": "row 00000", "arm": "tuned", "metric": "perplexity", **line}
    rule = _gate({"metric": "perplexity", "at_most": 3})
    verdict = decide(read_scores([stored]), Facts(1, 0.95, {}), _verified(GOOD), rule, EVALUATE)
    assert verdict.verdict == "INVALID"
    assert reason in verdict.reasons[0]


def test_an_invalid_rule_is_named_with_its_number() -> None:
    scores = [s for s in GOOD if s.arm != "few_shot"]
    verdict = decide(
        scores, _facts(GOOD), _verified(GOOD), _gate({**BETTER, "better_than": ["base"]}, BETTER), EVALUATE
    )
    assert verdict.reasons == [
        "rule 2 (exact_match better_than few_shot) cannot be judged: no score of exact_match is stored for the arm "
        "few_shot"
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda v: None, "verification is missing"),
        (lambda v: msgspec.structs.replace(v, passed=False, failed=("tokens", "kl")), "failed at tokens, kl"),
        (lambda v: msgspec.structs.replace(v, passed=False), "failed at a step that is not named"),
        (lambda v: msgspec.structs.replace(v, failed=("kl",)), "failed at kl"),
        (lambda v: msgspec.structs.replace(v, files=()), "names no file that ships"),
        (lambda v: _shipped(v, scores={}), "verify did not score model-q4_k_m.gguf on exact_match"),
        (
            lambda v: _shipped(v, scores={"exact_match": {"row 00000": 1.0}}),
            "the scores of model-q4_k_m.gguf are not those of the 31 rows asked, first row 00001",
        ),
        (
            lambda v: _shipped(v, scores={"exact_match": dict.fromkeys(v.rows, math.nan)}),
            "model-q4_k_m.gguf scored nan on row row 00000, which is no exact_match",
        ),
        (
            lambda v: msgspec.structs.replace(_shipped(v, scores={"exact_match": {"foreign": 1.0}}), rows=("foreign",)),
            "were asked 1 rows that the evaluation was not, first foreign",
        ),
    ],
)
def test_a_verification_that_cannot_be_believed_is_invalid(
    change: Callable[[Verified], Verified | None], reason: str
) -> None:
    verdict = decide(GOOD, _facts(GOOD), change(_verified(GOOD)), _gate(WITH_BOUND), EVALUATE)
    assert verdict.verdict == "INVALID"
    assert reason in "\n".join(verdict.reasons)


# Which verdict goes before which


def test_what_is_invalid_is_not_rejected_although_few_shot_wins() -> None:
    scores = _scores({"base": _right(2), "few_shot": _right(30), "tuned": _right(10)})
    assert decide(scores, _facts(scores), _verified(scores), _gate(), EVALUATE).verdict == "REJECT"
    assert decide(scores, _facts(scores), None, _gate(), EVALUATE).verdict == "INVALID"


def test_one_failed_condition_rejects_although_another_cannot_be_told() -> None:
    verdict = _decide(28, 30, 10, BETTER, {"metric": "exact_match", "at_least": 0.3})
    assert {c.outcome for c in verdict.checks} == {"failed", "cannot tell"}
    assert (verdict.verdict, len(verdict.reasons), verdict.rows_needed) == ("REJECT", 2, None)


def test_one_condition_that_cannot_be_told_holds_back_those_that_pass() -> None:
    verdict = _decide(2, 28, 30, {**BETTER, "at_least": 0.6})
    assert [c.outcome for c in verdict.checks] == ["passed", "cannot tell", "passed", "passed"]
    assert verdict.verdict == "CANNOT_TELL"


# Statistics


def test_a_stored_evaluation_gives_its_own_intervals_to_the_last_bit(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [
        make_row([Message("user", f"q {i}"), Message("assistant", f"label {i}")], "0" * 64, i, user=f"user {i % 23}")
        for i in range(60)
    ]
    rows.sort(key=lambda row: row.row_id)
    results = {
        arm: ArmResult(
            [Answer(row.answer if rng.random() < share else "label", 20, 3, True) for row in rows],
            [Likelihood(rng.uniform(1, 9), rng.randint(1, 9)) for _ in rows],
        )
        for arm, share in (("base", 0.1), ("few_shot", 0.5), ("tuned", 0.9))
    }
    weights = [x.tokens for x in results["base"].likelihoods]
    for arm, found in results.items():
        nats = [Likelihood(x.nll, tokens) for x, tokens in zip(found.likelihoods, weights, strict=True)]
        results[arm] = ArmResult(found.answers, nats)
    evaluate = EvaluateSettings(metrics=("token_f1", "exact_match", "perplexity"), seed=7)
    scores = [one for arm in results for one in score(rows, arm, results[arm], 49_152, evaluate)]  # type: ignore[arg-type]
    summary = summarise(scores, results, Shown(1, 0, ["a"]), evaluate)  # type: ignore[arg-type]
    write_lines(tmp_path / "scores.jsonl", scores)
    (tmp_path / "summary.json").write_bytes(orjson.dumps(msgspec.to_builtins(summary)))

    stored = read_scores(read_lines(tmp_path / "scores.jsonl"))
    facts = msgspec.json.decode((tmp_path / "summary.json").read_bytes(), type=Facts)
    file = ShippedFile("m", "f16", {"token_f1": {rows[0].row_id: 1.0}})
    rules = [{"metric": metric, "better_than": ["base", "few_shot"]} for metric in evaluate.metrics]
    bounds = [{"metric": "token_f1", "at_least": 0.1}, {"metric": "perplexity", "at_most": 99}]
    verdict = decide(
        stored[::-1], facts, Verified(True, (), (rows[0].row_id,), (file,)), _gate(*rules, *bounds), evaluate
    )

    compared = [summary.differences[arm][m].difference for m in evaluate.metrics for arm in ("base", "few_shot")]
    assert [(c.difference, c.low, c.high) for c in verdict.checks[:6]] == [(d.mean, d.low, d.high) for d in compared]
    values = [summary.arms["tuned"].metrics[metric] for metric in ("token_f1", "perplexity")]
    assert [(c.value, c.low, c.high) for c in verdict.checks[6:] if c.subject == "fine-tuned"] == [
        (v.value, v.low, v.high) for v in values
    ]


def test_the_same_scores_give_the_same_bytes_and_the_bytes_give_the_verdict() -> None:
    verdict = _decide(2, 28, 30, WITH_BOUND)
    assert to_json(verdict) == to_json(_decide(2, 28, 30, WITH_BOUND))
    assert from_json(to_json(verdict)) == verdict


def test_one_row_has_no_interval_and_the_json_says_null() -> None:
    verdict = _decide(0, 0, 1, rows=1)
    assert verdict.verdict == "CANNOT_TELL"
    assert orjson.loads(to_json(verdict))["checks"][0]["low"] is None
    assert from_json(to_json(verdict)) == verdict
    assert "95 % interval unbounded, 1 rows" in verdict.reasons[0]


def _drawn(law: Sequence[tuple[float, float, float]], rows: int, rng: np.random.Generator) -> list[Score]:
    """Draw rows of (share, base's score, tuned score)."""
    kind = rng.choice(len(law), size=rows, p=[share for share, _, _ in law])
    base, tuned = ([law[k][column] for k in kind] for column in (1, 2))
    return _scores({"base": base, "tuned": tuned})


PAIRED = [(0.2, 0.0, 1.0), (0.06, 1.0, 0.0), (0.74, 0.0, 0.0)]
RARE = [(0.02, 0.0, 1.0), (0.02, 1.0, 0.0), (0.96, 1.0, 1.0)]
OFTEN = [(31 / 32, 0.0, 1.0), (1 / 32, 0.0, 0.0)]


@pytest.mark.parametrize(
    ("law", "rows", "rule"),
    [
        (PAIRED, 50, {"better_than": ["base"]}),
        (RARE, 50, {"not_worse_than": ["base"], "margin": 0.05}),
        (OFTEN, 32, {"at_least": 0.9}),
    ],
)
def test_at_the_rows_that_are_named_the_rule_decides_four_times_in_five(
    law: list[tuple[float, float, float]], rows: int, rule: dict[str, Any]
) -> None:
    gates = _gate({"metric": "exact_match", **rule})
    seen = [(base, tuned) for share, base, tuned in law for _ in range(round(share * rows))]
    scores = _scores({"base": [base for base, _ in seen], "tuned": [tuned for _, tuned in seen]})
    verdict = decide(scores, _facts(scores), _verified(scores), gates, EVALUATE)
    assert verdict.verdict == "CANNOT_TELL"
    assert verdict.rows_needed is not None
    rng = np.random.default_rng(1)
    told = []
    for _ in range(150):
        drawn = _drawn(law, verdict.rows_needed, rng)
        told.append(decide(drawn, _facts(drawn), _verified(drawn), gates, EVALUATE).checks[0].outcome == "passed")
    assert 0.8 - 2 * math.sqrt(0.8 * 0.2 / 150) < np.mean(told) < 0.97


@pytest.mark.parametrize(
    ("law", "rows", "rule"),
    [
        ([(0.9, 0.0, 1.0), (0.1, 0.0, 0.0)], 32, {"at_least": 0.9}),
        ([(0.95, 0.0, 1.0), (0.05, 0.0, 0.0)], 100, {"at_least": 0.95}),
        ([(0.05, 1.0, 0.0), (0.95, 1.0, 1.0)], 70, {"not_worse_than": ["base"], "margin": 0.05}),
    ],
)
def test_a_model_exactly_on_the_line_passes_at_most_25_times_in_1000_and_chance(
    law: list[tuple[float, float, float]], rows: int, rule: dict[str, Any]
) -> None:
    gates, rng = _gate({"metric": "exact_match", **rule}), np.random.default_rng(2)
    passed = 0
    for _ in range(200):
        drawn = _drawn(law, rows, rng)
        passed += decide(drawn, _facts(drawn), _verified(drawn), gates, EVALUATE).checks[0].outcome == "passed"
    assert passed / 200 <= 0.025 + 2 * math.sqrt(0.025 * 0.975 / 200)


_SCORE = st.sampled_from([0.0, 0.25, 0.5, 1.0])
_ROWS = st.lists(st.tuples(_SCORE, _SCORE, _SCORE, st.integers(0, 20)), min_size=12, max_size=40)
_RULES = _gate(
    {"metric": "exact_match", "better_than": ["base", "few_shot"], "at_least": 0.3},
    {"metric": "exact_match", "not_worse_than": ["base"], "margin": 0.1},
)


def _three(rows: list[tuple[float, float, float, int]], tuned: Sequence[float]) -> list[Score]:
    arms: Arms = {"base": [row[0] for row in rows], "few_shot": [row[1] for row in rows], "tuned": tuned}
    return [msgspec.structs.replace(s, group=f"user {rows[int(s.row_id[4:])][3]}") for s in _scores(arms)]


@settings(max_examples=40, deadline=None)
@given(_ROWS, st.randoms(use_true_random=False))
def test_the_order_of_the_stored_scores_changes_no_byte(
    rows: list[tuple[float, float, float, int]], shuffler: random.Random
) -> None:
    scores = _three(rows, [row[2] for row in rows])
    mixed = shuffler.sample(scores, len(scores))
    one = decide(scores, _facts(scores), _verified(scores), _RULES, EVALUATE)
    two = decide(mixed, _facts(scores), _verified(mixed), _RULES, EVALUATE)
    assert to_json(one) == to_json(two)


@settings(max_examples=60, deadline=None)
@given(_ROWS, st.data())
def test_better_scores_never_turn_promote_into_reject(
    rows: list[tuple[float, float, float, int]], data: st.DataObject
) -> None:
    lift = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    lead = data.draw(st.sampled_from([0.0, 0.25, 0.5]))
    tuned = [min(1.0, max(row) + lead) if lead else row[2] for row in (r[:3] for r in rows)]
    better = [min(1.0, score + 0.25) if up else score for score, up in zip(tuned, lift, strict=True)]
    before, after = (
        decide(scores, _facts(scores), _verified(scores), _RULES, EVALUATE)
        for scores in (_three(rows, tuned), _three(rows, better))
    )
    event(before.verdict)
    for old, new in zip(before.checks, after.checks, strict=True):
        assert not (old.outcome == "passed" and new.outcome == "failed")
    assert not (before.verdict == "PROMOTE" and after.verdict == "REJECT")


# Settings


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "asks nothing of exact_match; say `better_than`, `not_worse_than`, `at_least` or `at_most`"),
        ({"by": 0.1, "at_least": 0.5}, "`better_than` names nobody"),
        ({"margin": 0.1, "at_least": 0.5}, "`not_worse_than` names nobody"),
        ({"not_worse_than": ["base"]}, "`not_worse_than` needs `margin`"),
        ({"not_worse_than": ["base"], "margin": 0}, "greater than 0"),
        ({"better_than": ["base", "base"]}, "names base twice"),
        ({"better_than": ["base"], "not_worse_than": ["base"], "margin": 0.1}, "names base twice"),
        ({"better_than": ["champion"]}, "'base' or 'few_shot'"),
        ({"better_than": ["tuned"]}, "'base' or 'few_shot'"),
        ({"at_least": 1.0}, "no number of rows can show that exact_match reaches 1"),
        ({"at_least": 0.0}, "greater than 0"),
        ({"at_most": 3.0}, "exact_match is better the higher it is; say `at_least`"),
        ({"metric": "perplexity", "at_least": 0.5}, "perplexity is better the lower it is; say `at_most`"),
        ({"metric": "perplexity", "at_most": 1.0}, "greater than 1"),
        ({"better_than": ["base"], "by": 5}, "points of exact_match, which lies in 0..1"),
        ({"better_then": ["base"]}, "Extra inputs"),
        ({"metric": "bleu", "at_least": 0.5}, "'field_accuracy'"),
    ],
)
def test_rules_that_ask_nonsense_are_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        _gate({"metric": "exact_match", **rule})


def test_an_empty_list_of_rules_is_refused() -> None:
    with pytest.raises(ValidationError, match="`rules` is empty, so everything would pass"):
        GateSettings.model_validate({"rules": []})


def test_a_rule_on_a_metric_that_is_not_measured_is_told_with_its_place() -> None:
    found = check(_gate(BETTER, {"metric": "json_valid", "at_least": 0.9}), EVALUATE)
    assert found == [
        (
            ("gate", "rules", 1, "metric"),
            "gate.rules.1.metric: json_valid is not measured; add it to evaluate.metrics, or name one of exact_match, "
            "perplexity",
        )
    ]
    assert check(_gate(BETTER), EVALUATE) == []
    assert check(_gate(), EVALUATE) == []


# Words


@pytest.mark.parametrize(
    ("verdict", "first"),
    [
        (_decide(2, 10, 30), "# PROMOTE: every condition holds on 31 test rows"),
        (_decide(2, 30, 10), "# REJECT: 1 of 2 conditions not met on 31 test rows"),
        (_decide(2, 28, 30), "# CANNOT_TELL: 1 of 2 conditions not shown on 31 test rows; about 1"),
        (decide(GOOD, _facts(GOOD), None, _gate(), EVALUATE), "# INVALID: the rules cannot be judged"),
    ],
)
def test_the_first_line_is_the_verdict(verdict: GateVerdict, first: str) -> None:
    assert gate.text(verdict).startswith(first)


def test_the_files_ship_only_when_promoted() -> None:
    assert "Files that ship:\n\n- model-q4_k_m.gguf (q4_k_m)\n" in gate.text(_decide(2, 10, 30))
    assert "Files that do not ship:\n\n- model-q4_k_m.gguf (q4_k_m)\n" in gate.text(_decide(2, 30, 10))
