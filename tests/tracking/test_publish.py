"""A whole pipeline, sealed in a real store, as MLflow holds it afterwards."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from tasks.publish import lineage, note, publish, told
from tasks.run import Run, pipeline_run
from tunemill.artifacts import Evaluation
from tunemill.home import Home
from tunemill.store import Store

Go = Callable[..., Run]
STAGES = ["deduplicate", "evaluate", "ingest", "model", "split", "tokenizer", "train", "validate"]


def test_lineage_leads_from_the_evaluation_to_all_eight_stages(store: Store, evaluation: Evaluation) -> None:
    chain = lineage(store, "evaluate", evaluation.key)
    assert sorted(chain) == STAGES
    assert chain["train"].made_from["splits"] == f"split/{chain['split'].key}"


def test_lineage_of_a_key_that_is_not_held_is_empty(store: Store, evaluation: Evaluation) -> None:
    assert lineage(store, "evaluate", "0" * 32) == {}


def test_the_description_begins_with_the_verdict_and_compares_the_arms(store: Store, evaluation: Evaluation) -> None:
    summary = orjson.loads((store.open(evaluation) / "summary.json").read_bytes())
    lines = note(Run(id="none", config={}, verdict="better"), summary).splitlines()
    assert lines[0] == f"**better** by `exact_match` on {summary['rows']} test rows"
    assert lines[2] == "|  &emsp; | base &emsp; | few-shot &emsp; | tuned |"
    assert lines[4].startswith("| exact_match &emsp; | 0.000 [0.000, 0.000]")
    assert lines[4].endswith("| 1.000 [1.000, 1.000] |")


def test_the_description_leaves_out_what_could_not_be_measured(store: Store, evaluation: Evaluation) -> None:
    summary = orjson.loads((store.open(evaluation) / "summary.json").read_bytes())
    summary["arms"]["base"]["metrics"]["perplexity"]["value"] = None
    lines = note(Run(id="none", config={}, verdict="better"), summary).splitlines()
    assert lines[5].startswith("| perplexity &emsp; |  &emsp; | 2.718 [2.718, 2.718]")


@pytest.mark.flow
def test_tags_name_every_stage_by_12_digits_and_the_verdict(
    home: Home, client: Any, go: Go, store: Store, evaluation: Evaluation
) -> None:
    held = client.get_run(go().mlflow_run)
    tags = held.data.tags
    assert [name for name in STAGES if f"tunemill.{name}" in tags] == STAGES
    assert tags["tunemill.evaluate"] == evaluation.key[:12]
    assert store.find(tags["tunemill.train"])[0].stage == "train"
    assert (held.info.status, tags["tunemill.verdict"]) == ("FINISHED", "better")
    assert tags["mlflow.source.name"] == "pipeline_configs/quickstart.yaml"


@pytest.mark.flow
def test_datasets_are_the_raw_file_and_the_three_sides_with_their_rows(
    home: Home, client: Any, go: Go, store: Store
) -> None:
    inputs = client.get_run(go().mlflow_run).inputs.dataset_inputs
    rows = {i.dataset.name.rpartition("/")[2]: orjson.loads(i.dataset.profile)["num_rows"] for i in inputs}
    [split] = store.manifests("split")
    assert rows == {"letters.jsonl": 40, **{side: split.counts[side] for side in ("train", "validation", "test")}}
    test = next(i.dataset for i in inputs if i.dataset.name == "test")
    assert split.part("test").startswith(test.digest)
    assert orjson.loads(test.source)["uri"] == str(store.folder("split", split.key) / "test")


@pytest.mark.flow
def test_the_model_leads_back_to_its_settings_its_stages_and_the_test_rows(
    home: Home, client: Any, go: Go, store: Store
) -> None:
    run = client.get_run(go().mlflow_run)
    [output] = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    [trained], [split] = store.manifests("train"), store.manifests("split")
    assert (model.name, model.status) == (f"adapter-{trained.key[:12]}", "READY")
    assert (model.params["method.rank"], model.params["tunemill.split"]) == ("16", split.key)
    assert "tunemill.evaluate" not in model.params
    found = {score.key: (score.value, score.dataset_name) for score in model.metrics}
    assert found == {
        "test/tuned/exact_match": (1.0, "test"),
        "test/tuned/perplexity": (pytest.approx(2.718, abs=1e-3), "test"),
    }
    assert {k for k in run.data.metrics if k.startswith("test/")} == {
        f"test/{arm}/{metric}" for arm in ("base", "few_shot", "tuned") for metric in ("exact_match", "perplexity")
    }


@pytest.mark.flow
def test_artifacts_are_each_stages_manifest_and_what_people_read(home: Home, client: Any, go: Go) -> None:
    run = go().mlflow_run
    found = {stage: [f.path for f in client.list_artifacts(run, stage)] for stage in STAGES}
    assert all(f"{stage}/manifest.json" in found[stage] for stage in STAGES)
    assert sorted(found["train"]) == ["train/events.jsonl", "train/loss.png", "train/manifest.json"]
    assert sorted(found["validate"]) == ["validate/manifest.json", "validate/report.md"]
    assert sorted(found["split"]) == ["split/certificate.json", "split/manifest.json"]


@pytest.mark.flow
def test_a_step_that_a_resumed_training_did_twice_is_told_once_with_its_last_value(
    home: Home, client: Any, go: Go
) -> None:
    points = client.get_metric_history(go().mlflow_run, "train/loss")
    assert sorted((point.step, point.value) for point in points) == [(1, 2.0), (2, 1.0), (3, 0.5)]


@pytest.mark.flow
def test_a_run_that_makes_nothing_new_opens_no_mlflow_run(
    home: Home, client: Any, go: Go, evaluation: Evaluation
) -> None:
    first = go()
    assert told(home, evaluation.key)
    again = go(cached=True)
    assert (again.mlflow_run, again.verdict, again.report) == (None, "better", first.report)
    assert len(client.search_runs([client.get_experiment_by_name("quickstart").experiment_id])) == 1


@pytest.mark.flow
def test_a_run_that_fails_is_closed_as_failed_and_keeps_its_settings(home: Home, client: Any, settings: Any) -> None:
    with pytest.raises(RuntimeError), pipeline_run(settings) as run:
        run.tracking()
        raise RuntimeError("out of memory")
    held = client.get_run(run.mlflow_run)
    assert (held.info.status, held.data.params["train.method.rank"]) == ("FAILED", "16")
    assert held.data.tags["tunemill.error"] == "RuntimeError: out of memory"
    record = orjson.loads((home.runs / f"{run.id}.json").read_bytes())
    assert (record["state"], record["error"]) == ("failed", "RuntimeError: out of memory")


@pytest.mark.flow
def test_a_run_that_fails_after_it_was_told_stays_finished_and_is_not_told_again(
    home: Home, client: Any, settings: Any, evaluation: Evaluation
) -> None:
    with pytest.raises(RuntimeError), pipeline_run(settings) as run:
        publish(evaluation)
        raise RuntimeError("7 of 18 checks failed\n  all of them")
    held = client.get_run(run.mlflow_run)
    assert (held.info.status, held.data.tags["tunemill.error"]) == ("FINISHED", "RuntimeError: 7 of 18 checks failed")
