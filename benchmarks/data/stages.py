"""Measure one of our own stages on one generated file: `python -m benchmarks.data.stages NAME FILE FOLDER`.

A process of its own each time, so that memory and compiled code of one do not help another. Compiled loops are run once
on a few rows before the clock starts; reading the rows a stage works on is not counted for it.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.data.clock import Clock, Measures
from benchmarks.data.truth import score
from tunemill import dedup
from tunemill.dedup import index
from tunemill.dedup.segments import open_segments
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.dedup.text import conversation_text, normalise_all, prompt_text
from tunemill.files import hash_file
from tunemill.quality import columns
from tunemill.quality.settings import ValidateSettings
from tunemill.rows import Row
from tunemill.sources import read
from tunemill.sources.settings import IngestSettings
from tunemill.splits import Ledger, SplitSettings, split, split_table
from tunemill.splits.columns import Columns

SETTINGS = DeduplicateSettings()
WARM = 400
"""Rows on which loops are compiled before the clock starts."""


def rows_of(path: Path) -> list[Row]:
    """Read a generated file, none of whose records may be rejected."""
    found = list(read(path, hash_file(path), IngestSettings(files=(str(path),))))
    assert all(isinstance(row, Row) for row in found)
    return found  # type: ignore[return-value]


def measure_read(path: Path, _: Path) -> Measures:
    """Time from the file to rows."""
    clock = Clock()
    with clock.measured("read"):
        rows = rows_of(path)
    return clock.report(rows=len(rows))


def measure_rules(path: Path, _: Path) -> Measures:
    """Time tidying white space and deriving the columns that rules are written on, without tokens."""
    rows, settings, clock = rows_of(path), ValidateSettings(), Clock()
    with clock.measured("row rules"):
        cleaned = [columns.clean(row, settings) for row in rows]
        columns.frame(cleaned, lambda _: 0, settings.roles)
    return clock.report()


def measure_expectations(path: Path, folder: Path) -> Measures:
    """Time the whole of validation: columns, Great Expectations and its report, without tokens."""
    from tunemill.quality import expectations

    rows, clock = rows_of(path), Clock()
    with clock.measured("Great Expectations"):
        expectations.validate(rows, ValidateSettings(), lambda _: 0, folder / "data_docs", {})
    return clock.report()


def measure_deduplicate(path: Path, _: Path) -> Measures:
    """Time the batch engine that the stage calls, and hold it against the truth."""
    rows, clock = rows_of(path), Clock()
    dedup.deduplicate(rows[:WARM], SETTINGS)
    with clock.measured("deduplicate"):
        found = dedup.deduplicate(rows, SETTINGS)
    kept = np.array([row.line for row in found.kept])
    dropped = np.ones(len(rows), np.bool_)
    dropped[kept - 1] = False
    return clock.report(**score(path.with_suffix(".npz"), dropped))


def measure_index(path: Path, folder: Path, text: Callable[[Row], str] = conversation_text) -> Measures:
    """Time the index from nothing: normalised texts, one segment written, labels; and hold it against the truth."""
    rows, clock = rows_of(path), Clock()
    _warm(rows, folder)
    with clock.measured("normalise"):
        texts = normalise_all(map(text, rows))
    target = folder / f"{path.stem}-{text.__name__}"
    shutil.rmtree(target, ignore_errors=True)
    with clock.measured("grow"):
        segment = index.grow([], rows, texts, SETTINGS, target)
    with clock.measured("labels"):
        labels = index.labels([segment])
    size = sum(file.stat().st_size for file in target.iterdir()) / 1e6
    mean = sum(map(len, texts)) / len(texts)
    found = score(path.with_suffix(".npz"), labels != np.arange(labels.size))
    return clock.report(characters=round(mean, 1), index_mb=round(size, 1), links=len(segment.arrays["links"]), **found)


def measure_prompts(path: Path, folder: Path) -> Measures:
    """Time the index on the prompts alone."""
    return measure_index(path, folder, prompt_text)


def measure_night(path: Path, folder: Path) -> Measures:
    """Time a night of new rows on an index that `measure_index` left behind."""
    base = folder / f"{path.stem.replace('night', 'rows')}-conversation_text"
    rows, clock = rows_of(path), Clock()
    _warm(rows, folder)
    with clock.measured("open"):
        held = open_segments([base], check=False)
    with clock.measured("check every byte"):
        open_segments([base])
    count = held[0].header.rows
    target = folder / f"{path.stem}"
    shutil.rmtree(target, ignore_errors=True)
    with clock.measured("night"):
        texts = normalise_all(map(conversation_text, rows))
        new = index.grow(held, rows, texts, SETTINGS, target)
        labels = index.labels([*held, new])
    dropped = labels[count:] != np.arange(count, labels.size)
    return clock.report(new=len(rows), held=count, **score(path.with_suffix(".npz"), dropped, count))


def measure_split(path: Path, _: Path) -> Measures:
    """Time grouping, dealing and the certificate, on columns and prompts of the rows that are no planted copies."""
    planted = np.load(path.with_suffix(".npz"))["origin"]
    rows = [row for row, origin in zip(rows_of(path), planted, strict=True) if origin == row.line - 1]
    settings, clock = SplitSettings(by_user=False), Clock()
    split(rows[:WARM], settings)
    table, prompts = Columns.of(rows).table, [prompt_text(row) for row in rows]
    with clock.measured("normalise"):
        texts = normalise_all(prompts)
    with clock.measured("split"):
        dealt = split_table(table, lambda some: [texts[i] for i in some.tolist()], settings, Ledger())
    return clock.report(rows=len(rows), leaks=dealt.certificate.leaks, method=dealt.certificate.method)


def _warm(rows: list[Row], folder: Path) -> None:
    """Compile every loop on a few rows, in two segments."""
    shutil.rmtree(folder / "warm", ignore_errors=True)
    few = rows[:WARM]
    texts = normalise_all(map(conversation_text, few))
    first = index.grow([], few, texts, SETTINGS, folder / "warm/1")
    opened = open_segments([first.folder])
    index.labels([*opened, index.grow(opened, few, [f"{text} x" for text in texts], SETTINGS, folder / "warm/2")])


STAGES: dict[str, Callable[[Path, Path], Measures]] = {
    "read": measure_read,
    "rules": measure_rules,
    "expectations": measure_expectations,
    "deduplicate": measure_deduplicate,
    "index": measure_index,
    "prompts": measure_prompts,
    "night": measure_night,
    "split": measure_split,
}

if __name__ == "__main__":
    print(json.dumps(STAGES[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))))
