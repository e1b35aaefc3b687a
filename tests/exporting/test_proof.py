"""Measures, bounds and noise floors, on distributions small enough to work out by hand."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tunemill.evaluation.generation import Answer
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.exporting import checks, proof, verify_report
from tunemill.exporting.proof import Check, Places
from tunemill.exporting.verify_settings import GgufBounds
from tunemill.rows import Message, make_row

HALVES = np.log(np.array([[0.5, 0.5], [0.9, 0.1]], dtype=np.float32))
BOUNDS = GgufBounds(top1=0.9, divergence=0.01, same_text=0.9, score_loss=0.05, stops=0.95)


def test_the_divergence_of_a_model_from_itself_is_0() -> None:
    found = proof.compare(HALVES, HALVES)
    assert (found.top1, found.kl) == (1.0, 0.0)


def test_the_divergence_is_that_of_the_formula_in_nats() -> None:
    other = np.log(np.array([[0.25, 0.75], [0.9, 0.1]], dtype=np.float32))
    found = proof.compare(HALVES, other)
    assert found.divergence == pytest.approx([0.5 * math.log(2) + 0.5 * math.log(2 / 3), 0], abs=1e-6)
    assert found.same == [False, True]


def test_a_padded_vocabulary_is_cut_to_the_references_width() -> None:
    padded = np.concatenate([HALVES, np.full((2, 3), -50, dtype=np.float32)], axis=1)
    assert proof.compare(HALVES, padded).kl == 0


def test_places_take_the_fewest_last_positions_that_reach_the_number_asked() -> None:
    found = proof.places(["a", "b", "c"], [11, 11, 3], 12)
    assert found.counts == [5, 5, 2]
    assert found.total == 12


def test_places_take_all_positions_where_there_are_too_few() -> None:
    assert proof.places(["a", "b"], [4, 3], 1000).counts == [3, 2]


@pytest.mark.parametrize("value", [math.nan, 0.011])
def test_a_value_over_its_bound_or_no_number_fails(value: float) -> None:
    assert not Check("q4_k_m", "mean divergence", value, "at most", 0.01, 0.0).passed


def test_a_failed_check_names_its_file_its_number_its_bound_and_its_floor() -> None:
    check = Check("q4_k_m", "next-token top-1 agreement", 0.5, "at least", 0.9, 0.999, ["row 1"])
    assert check.sentence == "q4_k_m: next-token top-1 agreement 0.500, at least 0.900 asked; noise floor 0.999"
    assert checks.failures([check]) == [f"{check.sentence}\n    row 1"]


def asked(folder: Path, answers: dict[str, Answer]) -> checks.Asked:
    rows = [make_row([Message("user", f"q{i}"), Message("assistant", f"answer {i}")], "s", i) for i in range(4)]
    for name in ("trained", "again"):
        np.save(folder / f"{name}.npy", np.repeat(HALVES, 2, axis=0))
    ids = [row.row_id for row in rows]
    right = {row.row_id: Answer(row.answer, 3, 2, True) for row in rows} | answers
    return checks.Asked(
        rows=rows,
        prompts={i: [1, 2, 3] for i in ids},
        forged=frozenset(),
        places=Places(ids, [1, 1, 1, 1]),
        trained=folder / "trained.npy",
        again=folder / "again.npy",
        answers=right,
        answers_again=right,
        settings=EvaluateSettings(metrics=("exact_match",)),
    )


def failed(given: checks.Asked, folder: Path, **changed: object) -> list[str]:
    took = {"prompts": given.prompts, "said": given.answers, **changed}
    near = given.distance(folder / "again.npy")
    found = checks.checks(given, "q4_k_m", near=near, floor=near, bounds=BOUNDS, **took)  # type: ignore[arg-type]
    return [check.measure for check in found if not check.passed]


def test_a_file_that_answers_as_the_adapter_passes_all_six_checks(tmp_path: Path) -> None:
    assert failed(asked(tmp_path, {}), tmp_path) == []


def test_one_prompt_of_four_with_other_ids_fails_the_template_or_tokenizer(tmp_path: Path) -> None:
    given = asked(tmp_path, {})
    other = {**given.prompts, given.rows[2].row_id: [1, 2, 4]}
    assert failed(given, tmp_path, prompts=other) == ["prompts with the same token ids"]


def test_prompts_with_tools_are_not_compared_and_nothing_to_compare_is_then_no_fault(tmp_path: Path) -> None:
    given = asked(tmp_path, {})
    rows = [msgspec.structs.replace(row, tools="[]") for row in given.rows]
    tooled = msgspec.structs.replace(given, rows=rows)
    assert tooled.tooled == {row.row_id for row in rows} and given.tooled == frozenset()
    apart = msgspec.structs.replace(tooled, forged=tooled.tooled)
    assert failed(apart, tmp_path, prompts={}) == []
    assert failed(msgspec.structs.replace(given, forged=tooled.tooled), tmp_path) == ["prompts with the same token ids"]


def test_answers_that_go_on_after_the_turn_fail(tmp_path: Path) -> None:
    given = asked(tmp_path, {})
    endless = {i: Answer(a.text, 3, 72, False) for i, a in given.answers.items()}
    assert failed(given, tmp_path, said=endless) == ["answers that end as the adapter's"]


def test_one_worse_answer_of_four_fails_the_text_and_the_score_and_is_named(tmp_path: Path) -> None:
    given = asked(tmp_path, {})
    row = given.rows[1].row_id
    worse = {**given.answers, row: Answer("wrong", 3, 2, True)}
    assert failed(given, tmp_path, said=worse) == ["greedy answers with the same text", "loss of exact_match"]
    near = given.distance(tmp_path / "again.npy")
    found = list(checks.checks(given, "f", given.prompts, near, near, worse, BOUNDS))
    assert found[-1].value == 0.25
    assert found[-1].worst == [f"{row}: 1.00 became 0.00"]


def test_where_perplexity_decides_the_first_metric_of_texts_is_bounded() -> None:
    both = EvaluateSettings(metrics=("perplexity", "rouge_l", "token_f1"), primary="perplexity")
    assert checks.scored(both) == ["rouge_l"]
    assert checks.scored(EvaluateSettings(metrics=("perplexity",))) == []


def test_too_few_prompts_or_positions_prove_nothing(tmp_path: Path) -> None:
    found = list(checks.enough(asked(tmp_path, {}), prompts=32, positions=4))
    assert [check.passed for check in found] == [False, True]
    assert found[0].sentence == "all files: test prompts 4, at least 32 asked"


def test_the_report_says_first_what_failed_and_draws_every_link(tmp_path: Path) -> None:
    bad = Check("q4_k_m", verify_report.DIVERGENCE, 0.5, "at most", 0.1, 0.0002, ["row 7"])
    verify_report.write(tmp_path, [bad], {"again": (0.0002, 0.999), "q4_k_m": (0.5, 0.4)}, "32 prompts.")
    lines = (tmp_path / "verify.md").read_text().splitlines()
    assert lines[0] == "# 1 of 1 checks failed: nothing ships"
    assert "    - row 7" in lines
    assert (tmp_path / "divergence.png").read_bytes()[:4] == b"\x89PNG"
