"""Real questions to look for twins in, the plain way to find them, and nights of rows to deduplicate."""

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from tunemill import dedup, rows, segments
from tunemill.dedup.columns import Columns, columns_of
from tunemill.dedup.contradictions import Contradicting
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.rows import Duplicate, Message, Row, make_row

DATA = Path(os.environ.get("TUNEMILL_REAL_DATA") or Path(__file__).parents[2] / "../shared/data")

Brute = Callable[[Sequence[str], float], dict[tuple[int, int], float]]


@dataclass(frozen=True)
class Clean:
    """What deduplication put out, read back."""

    kept: list[Row]
    duplicates: list[Duplicate]
    contradictions: list[Contradicting]
    folder: Path | None = field(default=None, compare=False)

    @property
    def dropped(self) -> int:
        return sum(one.outcome == "dropped" for one in self.contradictions)


def night(
    new: dict[str, Sequence[Row]], valid: Path, before: Path | None, folder: Path, settings: DeduplicateSettings
) -> Clean:
    """Write tables of new rows to `valid` and deduplicate all of its rows into `folder`."""
    for name, some in new.items():
        rows.write(valid / name, some)
    folder.mkdir()
    dedup.deduplicate(valid, new, before, folder, settings)
    return read_clean(folder)


def read_clean(folder: Path) -> Clean:
    listed = (
        (
            name,
            msgspec.json.decode(
                b"[" + b",".join((folder / f"{name}.jsonl").read_bytes().splitlines()) + b"]", type=kind
            ),
        )
        for name, kind in (("duplicates", list[Duplicate]), ("contradictions", list[Contradicting]))
    )
    return Clean(segments.read(folder / "rows"), folder=folder, **dict(listed))


def deduplicate(some: Sequence[Row], settings: DeduplicateSettings) -> Clean:
    """Deduplicate one batch of rows that stand in one table."""
    with TemporaryDirectory() as place:
        valid = Path(place) / "valid"
        valid.mkdir()
        return night({"0.parquet": some}, valid, None, Path(place) / "clean", settings)


def as_columns(some: Sequence[Row], name: str = "0.parquet") -> Columns:
    """Read rows as they are read from a table."""
    import pyarrow as pa

    return columns_of({name: pa.Table.from_pylist([msgspec.to_builtins(row) for row in some], schema=rows.schema())})


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
