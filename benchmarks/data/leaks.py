"""Count what three ways of splitting real data leave in the test set that was also trained on.

A test row leaks where a training prompt reaches Jaccard 0.7 on character 5-grams with its own, or where rows of its
conversation train. Prompts are compared exactly, with no hashing that could miss a pair.
"""

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np

from tunemill.dedup.overlap import alike
from tunemill.dedup.text import normalise_all, prompt_text
from tunemill.home import PROJECT
from tunemill.rows import Message, Row, make_row
from tunemill.splits import SIDES, SplitSettings, split

DATA = Path(os.environ.get("TUNEMILL_REAL_DATA") or PROJECT / "../shared/data")
THRESHOLD = 0.7
SEED = 0
Sides = dict[str, list[Row]]


def leaks() -> dict[str, dict[str, dict[str, int]]]:
    """Give for each dataset that is there and each split the test rows and those of them that leak."""
    found = {}
    for name, (pattern, rows_of) in DATASETS.items():
        paths = sorted(DATA.glob(pattern))
        if paths:
            rows = [row for path in paths for row in rows_of(path)]
            found[name] = {way: counted(deal(rows)) for way, deal in WAYS.items()}
    return found


def counted(sides: Sides) -> dict[str, int]:
    """Count the test rows that have a twin in train, or a conversation."""
    train, test = sides["train"], sides["test"]
    parts = np.repeat([0, 1], [len(train), len(test)])
    pairs = alike(normalise_all(map(prompt_text, [*train, *test])), parts, THRESHOLD, 5)
    leaking = {int(k) - len(train) for k in pairs.right}
    trained = {row.conversation for row in train} - {None}
    leaking |= {k for k, row in enumerate(test) if row.conversation in trained}
    return {"test rows": len(test), "leaks": len(leaking)}


def random(rows: Sequence[Row]) -> Sides:
    """Deal 80/10/10 by chance, as most tools do."""
    dealt = Random(SEED).sample(list(rows), len(rows))
    ends = (len(rows) * 8 // 10, len(rows) * 9 // 10)
    return {"train": dealt[: ends[0]], "test": dealt[ends[1] :]}


def exact(rows: Sequence[Row]) -> Sides:
    """Drop rows whose normalised prompt came before, then deal by chance."""
    first = dict(zip(reversed(normalise_all(map(prompt_text, rows))), reversed(rows), strict=True))
    return random(list(first.values())[::-1])


def grouped(rows: Sequence[Row]) -> Sides:
    """Deal as Tunemill does."""
    dealt = split(rows, SplitSettings()).sides
    return {name: [row for row, side in zip(rows, dealt, strict=True) if side == name] for name in SIDES}


WAYS: dict[str, Callable[[Sequence[Row]], Sides]] = {
    "random": random,
    "exact duplicates dropped, random": exact,
    "Tunemill": grouped,
}


def _banking(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        for line, (asked, intent) in enumerate(list(csv.reader(file))[1:], 2):
            yield make_row([Message("user", asked), Message("assistant", intent)], "a" * 64, line)


def _bitext(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line, record in enumerate(csv.DictReader(file), 2):
            yield make_row(
                [Message("user", record["utterance"]), Message("assistant", record["intent"])], "b" * 64, line
            )


def _dialogues(path: Path) -> Iterator[Row]:
    """Make a row of every answer with all turns before it, as a log of a chat holds them."""
    roles = {"USER": "user", "SYSTEM": "assistant"}
    for number, dialogue in enumerate(json.loads(path.read_bytes()), 1):
        turns = [Message(roles[turn["speaker"]], turn["utterance"]) for turn in dialogue["turns"]]
        for end in range(2, len(turns) + 1, 2):
            yield make_row(turns[:end], path.stem.ljust(64, "c"), number, conversation=dialogue["dialogue_id"])


DATASETS: dict[str, tuple[str, Callable[[Path], Iterator[Row]]]] = {
    "Banking77": ("banking77/train.csv", _banking),
    "Bitext": ("bitext-support/20000-Utterances*.csv", _bitext),
    "SGD": ("sgd-dialogues/*dialogues*.json", _dialogues),
}
