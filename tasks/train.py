"""Train: an adapter on the base model, in a process of its own that a kill cannot rob of its work."""

import contextlib
import shutil
from typing import Any

import orjson

from tasks.run import Run, listener
from tasks.stage import Retries, stage
from tunemill import child
from tunemill.artifacts import Adapter, BaseWeights, Splits, Tokenizer
from tunemill.store import Work
from tunemill.training.settings import TrainSettings

ENGINES = ("torch", "transformers", "trl", "peft", "bitsandbytes")
POINTS_PER_BATCH = 40


@stage(makes=Adapter, version=1, engines=ENGINES, retries=Retries(times=3, first_delay=5))
def train(work: Work, base: BaseWeights, tokenizer: Tokenizer, splits: Splits, settings: TrainSettings) -> Adapter:
    """Start the training, or go on from its newest checkpoint that verifies, and seal what it proves complete."""
    data = work.open(splits)
    job = {
        "model": str(work.open(base)),
        "tokenizer": str(work.open(tokenizer)),
        "train": str(data / "train"),
        "dealt": str(data),
        "validation": str(data / "validation"),
        "out": str(work.resume / "out"),
        "checkpoints": str(work.resume / "checkpoints"),
        "events": str(work.resume / "events.jsonl"),
        "identity": work.key,
        "settings": settings.model_dump(mode="json"),
    }
    path = work.resume / "job.json"
    path.write_bytes(orjson.dumps(job))
    with Watch() as watch:
        child.run("tunemill.training", path, work.resume / "events.jsonl", watch)
    shutil.copytree(work.resume / "out", work.folder, dirs_exist_ok=True)
    facts = orjson.loads((work.folder / "training.json").read_bytes())
    return work.seal(Adapter, **counts(facts))


def counts(facts: dict[str, Any]) -> dict[str, int]:
    """Pick the whole numbers of training.json that a person would like to see."""
    wanted = {"steps_done": "steps", "trainable": "trainable_parameters", "trained_tokens": "trained_tokens"}
    flat = {**facts, **facts.get("preflight", {})}
    return {shown: int(flat[name]) for name, shown in wanted.items() if isinstance(flat.get(name), int)}


def points(event: dict[str, Any]) -> list[tuple[str, float, int]]:
    """Turn a step or evaluation of the training into (metric, value, step); nothing for other events."""
    kind = event.get("event")
    if kind not in ("step", "evaluation"):
        return []
    names = ("loss", "learning_rate", "grad_norm", "tokens_per_second")
    side = "train" if kind == "step" else "validation"
    found = [(f"{side}/{name}", event[name], int(event["step"])) for name in names if event.get(name) is not None]
    return [(name, float(value), step) for name, value, step in found]


class Watch:
    """Pass the training's events to the screen, and in batches to MLflow where it answers."""

    def __init__(self) -> None:
        self.steps = 0
        self.waiting: list[tuple[str, float, int]] = []
        self.open = contextlib.ExitStack()

    def __enter__(self) -> "Watch":
        if tracking := Run.current().tracking():
            with Run.current().unless_down("takes no system metrics"):
                self.open.enter_context(tracking.system_metrics())
        return self

    def __exit__(self, *error: object) -> None:
        self._tell()
        with Run.current().unless_down("did not end its system metrics"):
            self.open.close()

    def __call__(self, event: dict[str, Any]) -> None:
        """Hear one event."""
        if event["event"] == "start":
            self.steps = int(event["steps"])
        if event["event"] == "step":
            left = event.get("left", event.get("seconds_left"))
            time_left = f", {left:.0f} s left" if isinstance(left, int | float) else ""
            speed = f", {event['tokens_per_second']:.0f} tokens/s" if event.get("tokens_per_second") else ""
            listener().progress("train", event["step"], self.steps, f"loss {event['loss']:.3f}{speed}{time_left}")
        self.waiting += points(event)
        if len(self.waiting) >= POINTS_PER_BATCH:
            self._tell()

    def _tell(self) -> None:
        Run.current().tell(self.waiting)
        self.waiting = []
