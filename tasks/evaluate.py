"""Evaluate: base, few-shot and tuned model on the test rows, with an interval on each difference."""

from typing import Any

import orjson

from tasks.run import listener
from tasks.stage import stage
from tunemill import child
from tunemill.artifacts import Adapter, BaseWeights, Evaluation, Splits, Tokenizer
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.store import Work

ENGINES = ("torch", "transformers", "peft", "bitsandbytes", "rouge_score")


@stage(makes=Evaluation, version=1, engines=ENGINES)
def evaluate(
    work: Work, base: BaseWeights, tokenizer: Tokenizer, splits: Splits, adapter: Adapter, settings: EvaluateSettings
) -> Evaluation:
    """Ask every arm the same questions with the same decoding, and say whether tuning helped."""
    data, trained = work.open(splits), work.open(adapter)
    job = {
        "model": str(work.open(base)),
        "tokenizer": str(work.open(tokenizer)),
        "adapter": str(trained / "adapter"),
        "method": method(work, adapter),
        "train": str(data / "train"),
        "test": str(data / "test"),
        "out": str(work.folder),
        "events": str(work.resume / "events.jsonl"),
        "settings": settings.model_dump(mode="json"),
    }
    path = work.resume / "job.json"
    path.write_bytes(orjson.dumps(job))
    child.run("tunemill.evaluation", path, work.resume / "events.jsonl", hear)
    return work.seal(Evaluation, rows=orjson.loads((work.folder / "summary.json").read_bytes())["rows"])


def method(work: Work, adapter: Adapter) -> dict[str, Any]:
    """Give the method's settings as sealed with the adapter: they decide the form in which the base is loaded.

    `compute_dtype: auto` is what it was when the adapter was trained, whatever this machine would choose.
    """
    manifest = work.store.manifest(adapter.stage, adapter.key)
    assert manifest is not None, "an artifact that is an input has a manifest"
    facts = orjson.loads((work.open(adapter) / "training.json").read_bytes())
    return {**manifest.parts["section"]["settings"]["method"], "compute_dtype": facts["compute_dtype"]}


def hear(event: dict[str, Any]) -> None:
    """Pass the progress of an arm to the screen."""
    if event["event"] == "progress":
        listener().progress("evaluate", event["done"], event["of"], event["arm"].replace("_", "-"))
