"""Train in a process of its own: `python -m tunemill.training job.json`.

The job is a `tunemill.training.job.Job` as JSON; by hand, with a model in base/ and rows written by `tunemill.rows`:

    {"model": "base", "tokenizer": "base", "train": "train", "validation": "validation",
     "out": "out", "checkpoints": "checkpoints", "events": "events.jsonl", "identity": "by-hand",
     "settings": {"epochs": 1, "method": {"kind": "qlora", "rank": 16}}}

Exit status: 0 done; 2 or 3 one of our own errors, told on stderr and as an `error` event; 75 told to stop by SIGTERM,
start it again to go on; anything else is a fault of the world or a bug.
"""

import os
import sys
from pathlib import Path

from pydantic import ValidationError

from tunemill.child import PREEMPTED
from tunemill.errors import ConfigError, TunemillError
from tunemill.home import Home
from tunemill.training.events import Events
from tunemill.training.job import Job, Preempted, Stop


def main(arguments: list[str]) -> int:
    """Run the job that a file describes; return the exit status."""
    if len(arguments) != 1:
        print("usage: python -m tunemill.training job.json", file=sys.stderr)
        return ConfigError.exit_code
    try:
        job = Job.model_validate_json(Path(arguments[0]).read_bytes())
    except (OSError, ValidationError) as error:
        print(f"{arguments[0]} is not a training job: {error}", file=sys.stderr)
        return ConfigError.exit_code
    with Events(job.events) as events:
        return _run(job, events)


def _run(job: Job, events: Events) -> int:
    stop = Stop(events)
    stop.listen()
    _quiet()
    try:
        from tunemill.training.trainer import train

        _threads(job)
        train(job, events, stop)
    except TunemillError as error:
        events.tell("error", kind=type(error).__name__, message=str(error))
        print(error, file=sys.stderr)
        return error.exit_code
    except Preempted:
        events.tell("preempted", "told to stop; what was done is saved")
        return PREEMPTED
    return 0


def _quiet() -> None:
    """Keep the libraries off the network, under our home, and silent where all is well."""
    offline = {name: "1" for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")}
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    for name, value in {**Home.find().environment(), **offline, **quiet}.items():
        os.environ.setdefault(name, value)
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]  # one GPU trains


def _threads(job: Job) -> None:
    import torch

    if job.threads is not None:
        torch.set_num_threads(job.threads)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
