"""Make rows and run training jobs on them, in this process or in one of its own."""

import os
import subprocess
import sys
from typing import Any

import orjson

from tunemill.rows import Message, Row, make_row
from tunemill.training.job import Job

TOPICS = ("refund", "delivery", "invoice", "account")


def ticket(number: int) -> Row:
    """Make a row of 3 turns whose answer is one of four short JSON objects; some questions are longer than others."""
    topic = TOPICS[number % 4]
    turns = [
        Message("system", "Sort the ticket."),
        Message("user", f"Ticket {number}: " + f"a question about {topic} " * (1 + number % 3)),
        Message("assistant", f'{{"topic": "{topic}"}}'),
    ]
    return make_row(turns, f"{number % 2}" * 64, number)


def start(job: Job, **environment: str) -> "subprocess.Popen[bytes]":
    """Start the training process of a job as a parent would."""
    quiet = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [sys.executable, "-m", "tunemill.training", str(job.events.parent / "job.json")],
        env={**os.environ, **quiet, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def run_here(job: Job) -> None:
    """Run a job in this process; its errors come out as they are."""
    from tunemill.training.events import Events
    from tunemill.training.job import Stop
    from tunemill.training.trainer import train

    with Events(job.events) as events:
        train(job, events, Stop(events))


def events_of(job: Job, *kinds: str) -> list[dict[str, Any]]:
    """Read the events of these kinds back, in order."""
    lines = [orjson.loads(line) for line in job.events.read_bytes().splitlines()]
    return [event for event in lines if event["event"] in kinds]


def results(job: Job) -> dict[str, bytes]:
    """Read the files that two equal trainings must share to the byte."""
    names = ("adapter/adapter_model.safetensors", "adapter/adapter_config.json", "training.json")
    return {name: (job.out / name).read_bytes() for name in names}
