"""Real questions to look for twins in, and the plain way to find them."""

import csv
import os
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import pytest

from tunemill.rows import Message, Row, make_row

DATA = Path(os.environ.get("TUNEMILL_REAL_DATA") or Path(__file__).parents[2] / "../shared/data")

Brute = Callable[[Sequence[str], float], dict[tuple[int, int], float]]


def banking_rows() -> list[Row]:
    """Read 10,003 questions to a bank with the intent as the answer, or skip where the file is not."""
    path = DATA / "banking77" / "train.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} of Banking77 is not under TUNEMILL_REAL_DATA")
    with path.open(encoding="utf-8", newline="") as file:
        records = list(csv.reader(file))[1:]
    return [
        make_row([Message("user", asked), Message("assistant", intent)], "b" * 64, line)
        for line, (asked, intent) in enumerate(records, start=2)
    ]


@pytest.fixture(scope="session")
def banking() -> list[Row]:
    return banking_rows()


@pytest.fixture(scope="session")
def brute() -> Brute:
    """Compare every two texts as Python sets of five-character strings."""

    def pairs(texts: Sequence[str], threshold: float) -> dict[tuple[int, int], float]:
        sets = [{text[i : i + 5] for i in range(len(text) - 4)} or {text} for text in texts]
        found = {}
        for i, j in combinations(range(len(texts)), 2):
            one, other = sets[i], sets[j]
            shared = len(one & other)
            if shared and shared >= threshold * (len(one) + len(other) - shared):
                found[i, j] = shared / (len(one) + len(other) - shared)
        return found

    return pairs
