"""What `tunemill plan` says before anything runs."""

from pathlib import Path
from typing import Any

import pytest

from tasks.deduplicate import deduplicate
from tasks.history import earlier_clean, earlier_splits
from tasks.ingest import closed_files, ingest
from tasks.located import located_model
from tasks.model import tokenizer
from tasks.plan import Step, planned, shown
from tasks.run import Listener, listening, pipeline_run
from tasks.split import benchmark_files, split, warn_if_small
from tasks.stage import Stage
from tasks.validate import validate
from tunemill import rows, segments
from tunemill.artifacts import CleanDataset, Splits, digest_of
from tunemill.config import PipelineConfig, load
from tunemill.home import PROJECT, Home
from tunemill.rows import Message, make_row
from tunemill.store import Store


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineConfig:
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    Home.find().enter()
    return load(PROJECT / "pipeline_configs" / "quickstart.yaml")


def step(steps: list[Step], name: str) -> Step:
    return next(step for step in steps if step.name == name)


def test_before_the_first_run_rows_and_tokens_are_estimated(config: PipelineConfig) -> None:
    steps = planned(config)
    assert {s.name: s.state for s in steps if s.state != "depends"} == dict.fromkeys(
        ["ingest", "tokenizer", "model"], "runs"
    )
    assert [s.name for s in steps][-5:] == ["merge", "quantize", "export", "verify", "gate"]
    assert step(steps, "validate").why == ["ingest", "tokenizer"]
    assert set(step(steps, "ingest").estimated) == {"records", "rows"}
    assert 30_000 < step(steps, "validate").estimated["tokens"] < 40_000
    assert "never made (about 400 records, 38" in shown(steps)


def test_what_is_held_is_counted_exactly_and_a_changed_setting_is_named(config: PipelineConfig) -> None:
    ingest.run(Store(Home.find().store), closed_files(config.ingest), config.ingest)
    held = step(planned(config), "ingest")
    assert (held.state, held.counts["rows"], held.counts["rejected"], held.estimated) == ("held", 384, 16, {})
    changed = config.model_copy(update={"ingest": config.ingest.model_copy(update={"max_rejected": 0.5})})
    again = step(planned(changed), "ingest")
    assert again.state == "runs"
    assert again.why == ["section.settings.max_rejected 0.1 → 0.5", "0 of 3 files are new"]
    assert again.estimated == {}


def test_only_the_rows_of_new_files_are_estimated(config: PipelineConfig) -> None:
    store, files = Store(Home.find().store), closed_files(config.ingest)
    anything = config.ingest.model_copy(update={"max_rejected": 1.0})
    first = ingest.run(store, files.model_copy(update={"files": files.files[:1]}), anything)
    found = step(planned(config), "ingest")
    assert found.why[-1] == "2 of 3 files are new"
    read = first.counts["rows"] + first.counts["rejected"]
    assert found.estimated["records"] == 400 - read


def test_the_split_of_an_earlier_night_is_known_before_anything_runs(config: PipelineConfig) -> None:
    store, files = Store(Home.find().store), closed_files(config.ingest)
    first = files.model_copy(update={"files": files.files[:1]})
    raw = ingest.run(store, first, config.ingest.model_copy(update={"max_rejected": 1.0}))
    with store.work("deduplicate", "0" * 32) as work:
        segments.write(work.folder / "rows", segments.read(store.open(raw) / "rows"))
        work.seal(CleanDataset)
        clean = store.commit(work, CleanDataset, {}, {"raw": f"ingest/{raw.key}"})
    made = split.run(store, clean, None, benchmark_files(config.split), config.split)
    assert earlier_splits(files, config.split) == made
    assert step(planned(config), "split").why == ["deduplicate"]


def test_the_clean_dataset_of_an_earlier_night_is_known_once_tonights_rows_are(config: PipelineConfig) -> None:
    store = Store(Home.find().store)
    raw = ingest.run(store, closed_files(config.ingest), config.ingest)
    words = sealed(store, tokenizer, {"source": located_model(config.model)}, [])
    first = sealed(store, validate, {"night": 1}, ["a"])
    made = deduplicate.run(store, first, None, config.deduplicate)
    assert step(planned(config), "deduplicate").why == ["validate"]
    valid = sealed(store, validate, {"raw": raw, "tokenizer": words, "settings": config.validation}, ["a", "b"])
    planning = step(planned(config), "deduplicate")
    assert planning.key == deduplicate.key({"valid": valid, "previous": made, "settings": config.deduplicate})
    assert planning.why == ["inputs.previous differs", "inputs.valid differs"]
    deduplicate.run(store, valid, earlier_clean(valid, config.deduplicate), config.deduplicate)
    assert step(planned(config), "deduplicate").state == "held"


def sealed(store: Store, stage: Stage[Any, Any], arguments: dict[str, Any], tables: list[str]) -> Any:
    """Seal what a stage would make of these arguments, with tables of one row."""
    key = digest_of(arguments) if "night" in arguments else stage.key(arguments)
    with store.work(stage.name, key) as work:
        (work.folder / "rows").mkdir()
        for name in tables:
            row = make_row([Message("user", f"question {name}"), Message("assistant", "yes")], name * 64, 1)
            rows.write(work.folder / "rows" / f"{name}.parquet", [row])
        work.seal(stage.makes)
        return store.commit(work, stage.makes, {}, {})


def test_too_few_training_rows_are_a_warning_with_the_number(config: PipelineConfig) -> None:
    heard: list[str] = []

    class Ear(Listener):
        def warn(self, message: str) -> None:
            heard.append(message)

    few = Splits(key="k", digest="d", counts={"train": 99})
    with listening(Ear()), pipeline_run(config) as run:
        assert warn_if_small(few, "style") is few
    assert heard == run.warnings
    assert heard[0].startswith("99 training rows are below the minimum for `style`: minimum 100 to 500")
