"""Evaluate the real small model with an adapter that changes nothing, and with one that breaks it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunemill import rows
from tunemill.evaluation import job as evaluation
from tunemill.evaluation.job import Job
from tunemill.evaluation.settings import EvaluateSettings, FewShotSettings
from tunemill.rows import Message, Row, make_row
from tunemill.training.methods import QLora

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

METHOD = QLora(rank=4, target_modules=("q_proj", "v_proj"))
INTENTS = ("refund", "delivery", "invoice")
SETTINGS = EvaluateSettings(
    metrics=("perplexity", "exact_match", "token_f1", "rouge_l", "json_valid", "field_accuracy"),
    primary="perplexity",
    fields=("intent",),
    few_shot=FewShotSettings(k=2),
    max_new_tokens=16,
    prompts=("Where is my parcel?",),
)


def _row(number: int) -> Row:
    intent = INTENTS[number % 3]
    turns = [
        Message("system", "Answer in JSON."),
        Message("user", f"Ticket {number}: a question about {intent}"),
        Message("assistant", json.dumps({"intent": intent})),
    ]
    return make_row(turns, "0" * 64, number)


def _evaluate(checkpoint: Path, folder: Path, adapter: Path) -> list[dict[str, Any]]:
    """Run a job in this process; give its events."""
    rows.write(folder / "train.parquet", [_row(number) for number in range(100, 120)])
    rows.write(folder / "test.parquet", [_row(number) for number in range(10)])
    events: list[dict[str, Any]] = []
    job = Job(
        model=checkpoint / "model",
        tokenizer=checkpoint / "tokenizer",
        adapter=adapter,
        method=METHOD,
        train=folder / "train.parquet",
        test=folder / "test.parquet",
        out=folder / "out",
        events=folder / "events.jsonl",
        settings=SETTINGS,
    )
    evaluation.run(job, events.append)
    return events


@pytest.fixture(scope="module")
def adapters(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write two adapters: `fresh`, whose B is zero, and `broken`, whose B is noise."""
    import torch

    from tunemill.training.methods import attach, load_base

    folder = tmp_path_factory.mktemp("adapters")
    model = attach(load_base(checkpoint / "model", METHOD, "cpu"), METHOD, seed=0)
    model.save_pretrained(str(folder / "fresh"))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    model.save_pretrained(str(folder / "broken"))
    return folder


@pytest.fixture(scope="module")
def fresh(
    checkpoint: Path, adapters: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("fresh")
    return folder / "out", _evaluate(checkpoint, folder, adapters / "fresh")


def test_an_adapter_that_changes_nothing_scores_exactly_as_the_base(fresh: tuple[Path, list[dict[str, Any]]]) -> None:
    scores = list(rows.read_lines(fresh[0] / "scores.jsonl"))
    by_arm = {
        arm: [(s["row_id"], s["metric"], s["total"], s["weight"]) for s in scores if s["arm"] == arm]
        for arm in ("base", "few_shot", "tuned")
    }
    assert by_arm["tuned"] == by_arm["base"]
    assert by_arm["few_shot"] != by_arm["base"]
    assert len(scores) == 3 * 10 * 6


def test_an_adapter_that_changes_nothing_is_the_same_and_not_better(fresh: tuple[Path, list[dict[str, Any]]]) -> None:
    summary = json.loads((fresh[0] / "summary.json").read_bytes())
    assert summary["verdict"] == "not better"
    assert {found["outcome"] for found in summary["differences"]["base"].values()} == {"same"}


def test_examples_lower_the_perplexity_of_the_answers(fresh: tuple[Path, list[dict[str, Any]]]) -> None:
    found = json.loads((fresh[0] / "summary.json").read_bytes())["arms"]
    assert found["few_shot"]["metrics"]["perplexity"]["value"] < found["base"]["metrics"]["perplexity"]["value"] / 2


def test_every_row_and_fixed_prompt_has_an_answer_of_every_arm(fresh: tuple[Path, list[dict[str, Any]]]) -> None:
    said = list(rows.read_lines(fresh[0] / "generations.jsonl"))
    assert len(said) == 3 * (10 + 1)
    assert len({(one.get("row_id", one.get("prompt")), one["arm"]) for one in said}) == 33
    assert all(one["text"] or one["failure"] for one in said)


def test_every_arm_is_followed_to_its_end(fresh: tuple[Path, list[dict[str, Any]]]) -> None:
    last = {event["arm"]: event for event in fresh[1] if event["event"] == "progress"}
    assert {arm: (event["done"], event["of"]) for arm, event in last.items()} == dict.fromkeys(
        ("base", "few_shot", "tuned"), (21, 21)
    )
    assert fresh[1][-1] == {"event": "done", "verdict": "not better", "primary": "perplexity", "rows": 10}


def test_nothing_that_is_written_names_a_place_of_this_machine(
    fresh: tuple[Path, list[dict[str, Any]]], checkpoint: Path
) -> None:
    for path in (path for path in fresh[0].rglob("*") if path.is_file()):
        data = path.read_bytes()
        assert str(checkpoint).encode() not in data
        assert str(fresh[0].parent).encode() not in data


def test_the_same_job_again_writes_the_same_bytes_but_for_the_report(
    fresh: tuple[Path, list[dict[str, Any]]], checkpoint: Path, adapters: Path, tmp_path: Path
) -> None:
    _evaluate(checkpoint, tmp_path, adapters / "fresh")
    for name in ("scores.jsonl", "generations.jsonl", "summary.json"):
        assert (tmp_path / "out" / name).read_bytes() == (fresh[0] / name).read_bytes()


def test_a_broken_adapter_is_worse_than_the_base(checkpoint: Path, adapters: Path, tmp_path: Path) -> None:
    _evaluate(checkpoint, tmp_path, adapters / "broken")
    summary = json.loads((tmp_path / "out" / "summary.json").read_bytes())
    assert summary["differences"]["base"]["perplexity"]["outcome"] == "worse"
    assert summary["verdict"] == "not better"
    report = (tmp_path / "out" / "report" / "report.md").read_text()
    assert report.startswith("# The fine-tuned model is not better\n")
    assert "Fine-tuning did not help beyond few-shot prompting" in report
