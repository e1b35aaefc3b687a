"""Merge: the adapter and the base it was trained on become one ordinary model."""

from typing import Any

import orjson

from tasks.evaluate import method
from tasks.run import listener
from tasks.stage import stage
from tunemill import child
from tunemill.artifacts import Adapter, BaseWeights, Merged, Tokenizer
from tunemill.store import Work

ENGINES = ("torch", "transformers", "peft", "bitsandbytes")


@stage(makes=Merged, version=1, engines=ENGINES)
def merge(work: Work, base: BaseWeights, tokenizer: Tokenizer, adapter: Adapter) -> Merged:
    """Write the merged checkpoint in the number format that training computed in, whatever device merges."""
    job = {
        "model": str(work.open(base)),
        "tokenizer": str(work.open(tokenizer)),
        "adapter": str(work.open(adapter) / "adapter"),
        "method": method(work, adapter),
        "out": str(work.folder),
        "events": str(work.resume / "events.jsonl"),
    }
    path = work.resume / "job.json"
    path.write_bytes(orjson.dumps(job))
    child.run("tunemill.exporting.merge_process", path, work.resume / "events.jsonl", hear)
    merged = orjson.loads((work.folder / "merge.json").read_bytes())
    return work.seal(Merged, layers=merged["layers"], parameters=merged["parameters"])


def hear(event: dict[str, Any]) -> None:
    """Pass the count of merged layers to the screen."""
    if event["event"] == "progress":
        listener().progress("merge", event["done"], event["of"], "layers")
