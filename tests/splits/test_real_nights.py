"""Real logs, night after night: nothing leaks where a random deal leaks by the hundred."""

import csv
from collections.abc import Callable
from random import Random

import numpy as np
import orjson
import pytest

from tests.dedup.conftest import DATA, banking_rows, deduplicate
from tests.splits.conftest import nights
from tunemill.dedup.crossings import crossings
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.rows import Message, Row, make_row
from tunemill.splits import SIDES, SplitSettings


def bitext_rows() -> list[Row]:
    path = DATA / "bitext-support" / "20000-Utterances-Bitext-sample.csv"
    if not path.is_file():
        pytest.skip("Bitext is not under TUNEMILL_REAL_DATA")
    with path.open(encoding="utf-8", newline="") as file:
        records = list(csv.DictReader(file))
    turns = [(r["utterance"], r["intent"]) for r in records]
    return [
        make_row([Message("user", asked), Message("assistant", intent)], "e" * 64, line)
        for line, (asked, intent) in enumerate(turns, start=2)
    ]


def sgd_rows() -> list[Row]:
    """Give each dialogue as one row."""
    paths = sorted((DATA / "sgd-dialogues").glob("*_dialogues_*.json"))
    if not paths:
        pytest.skip("SGD is not under TUNEMILL_REAL_DATA")
    roles = {"USER": "user", "SYSTEM": "assistant"}
    dialogues = [each for path in paths for each in orjson.loads(path.read_bytes())]
    return [
        make_row([Message(roles[turn["speaker"]], turn["utterance"]) for turn in each["turns"]], "d" * 64, line)
        for line, each in enumerate(dialogues, start=1)
    ]


@pytest.mark.parametrize(
    ("source", "by_chance"),
    [(banking_rows, 400), (bitext_rows, 500), (sgd_rows, 0)],
    ids=["Banking77", "Bitext", "SGD"],
)
def test_in_5_nights_of_real_rows_nothing_leaks(source: Callable[[], list[Row]], by_chance: int) -> None:
    rows = deduplicate(source(), DeduplicateSettings()).kept
    Random(4).shuffle(rows)
    every = np.array_split(np.arange(len(rows)), [len(rows) // 2, *(len(rows) * k // 10 for k in (6, 7, 8, 9))])
    found, ledger = nights([[rows[i] for i in night] for night in every], SplitSettings())
    sides = np.array([SIDES.index(side) for side in ledger.entries.side])
    assert len(crossings(ledger.entries.text, sides, 0.5).pairs.left) == 0
    assert len(ledger) + sum(len(night.bridges) for night in found) == len(rows)
    whole = found[-1].certificate.ledger
    assert whole.off_by <= max(whole.largest_group, 1)
    dealt = np.random.RandomState(0).choice(3, len(ledger), p=[0.8, 0.1, 0.1])
    assert len(crossings(ledger.entries.text, dealt, 0.5).pairs.left) >= by_chance
