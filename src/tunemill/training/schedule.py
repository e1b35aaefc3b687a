"""Decide, before training and without a model, which rows each step learns from and when it is measured, kept or ended.

The order of all rows over all epochs is laid out at once, so that going on after a kill is to leave out a beginning.
"""

import bisect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tunemill.training.settings import EarlyStopping, TrainSettings

EVALUATIONS = 10
"""How often the validation loss is measured when nobody says how often."""

Point = tuple[int, float]
"""A step and the loss measured after it, in nats per token."""


def planned_steps(units: int, settings: TrainSettings) -> int:
    """Count the steps of a whole training on so many rows (or packs), each seen `epochs` times."""
    steps = math.ceil(math.ceil(units * settings.epochs) / settings.rows_per_step)
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def order(lengths: Sequence[int], settings: TrainSettings) -> list[int]:
    """Lay out the row numbers of all steps, epoch after epoch, each epoch shuffled by the seed.

    Inside a step rows stand from long to short, so that a forward pass holds rows of like length and little padding;
    a step's gradient is a sum over its rows, whatever their order.
    """
    total = min(
        math.ceil(len(lengths) * settings.epochs), planned_steps(len(lengths), settings) * settings.rows_per_step
    )
    epochs = math.ceil(total / len(lengths))
    shuffled = [np.random.default_rng([settings.seed, epoch]).permutation(len(lengths)) for epoch in range(epochs)]
    dealt = np.concatenate(shuffled)[:total].tolist()
    steps = (dealt[i : i + settings.rows_per_step] for i in range(0, total, settings.rows_per_step))
    return [row for step in steps for row in sorted(step, key=lambda row: -lengths[row])]


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Group row numbers so that no group is longer than `capacity` tokens: longest first, each into the fullest fit."""
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (free tokens, number of the pack), sorted
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        at = bisect.bisect_left(room, (lengths[row], -1))
        free, number = room.pop(at) if at < len(room) else (capacity, len(packs))
        if number == len(packs):
            packs.append([])
        packs[number].append(row)
        bisect.insort(room, (free - lengths[row], number))
    return packs


def warmup(steps: int, settings: TrainSettings) -> int:
    """Count the steps in which the rate climbs; at least one step is left at full rate."""
    wanted = settings.warmup_steps if settings.warmup_steps is not None else math.ceil(settings.warmup_ratio * steps)
    return min(wanted, steps - 1)


def evaluation_interval(steps: int, settings: TrainSettings) -> int:
    """Give the steps between two measurements of the validation loss."""
    return settings.evaluate_every or max(1, math.ceil(steps / EVALUATIONS))


def training_losses(history: Sequence[dict[str, Any]]) -> list[Point]:
    """Pick the training loss of every step out of a Trainer's log."""
    return [(int(entry["step"]), float(entry["loss"])) for entry in history if "loss" in entry]


def validation_losses(history: Sequence[dict[str, Any]]) -> list[Point]:
    """Pick the validation losses out of a Trainer's log; step 0 is the base model."""
    return [(int(entry["step"]), float(entry["eval_loss"])) for entry in history if "eval_loss" in entry]


def best_step(evaluations: Sequence[Point]) -> int | None:
    """Name the step with the lowest validation loss, the earliest of equals; None before anything was trained."""
    trained = [(loss, step) for step, loss in evaluations if step > 0]
    return min(trained)[1] if trained else None


def stops_early(evaluations: Sequence[Point], early: EarlyStopping | None) -> bool:
    """Say whether the last `patience` measurements brought no loss lower than the lowest before by `min_delta`."""
    if early is None:
        return False
    lowest, waited = math.inf, 0
    for _, loss in evaluations:
        lowest, waited = (loss, 0) if loss < lowest - early.min_delta else (lowest, waited + 1)
    return waited >= early.patience


def finished(history: Sequence[dict[str, Any]], planned: int, early: EarlyStopping | None) -> bool:
    """Say whether a Trainer's log is that of a whole training: all steps, or an end by early stopping."""
    done = max((step for step, _ in training_losses(history)), default=0)
    return done == planned or (done > 0 and stops_early(validation_losses(history), early))
