"""Measure one of our own stages on one generated file: `python -m benchmarks.data.stages NAME FILE FOLDER`.

A process of its own each time, so that memory and compiled code of one do not help another. Compiled loops are run once
on a few rows before the clock starts; reading the rows a stage works on is not counted for it.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.data.clock import Clock, Measures
from benchmarks.data.truth import score
from tunemill import dedup
from tunemill.dedup import index
from tunemill.dedup.columns import columns_of
from tunemill.dedup.segments import open_segments
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.dedup.text import normalise_all, prompt_text
from tunemill.files import hash_file
from tunemill.quality import columns
from tunemill.quality.settings import ValidateSettings
from tunemill.rows import Row, with_messages, write
from tunemill.rows import read as read_back
from tunemill.sources import read
from tunemill.sources.settings import IngestSettings
from tunemill.splits import Ledger, SplitSettings, split, split_table
from tunemill.splits.columns import Columns

if TYPE_CHECKING:
    import pyarrow as pa

SETTINGS = DeduplicateSettings()
TABLE, NIGHT = "rows.parquet", "night.parquet"
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


def measure_parquet(path: Path, folder: Path) -> Measures:
    """Time writing rows as parquet, as each stage does once, and reading them back, as the next one does."""
    given, clock, file = rows_of(path), Clock(), folder / f"{path.stem}.parquet"
    write(file, given[:WARM])  # imports pyarrow
    with clock.measured("write"):
        write(file, given)
    with clock.measured("read back"):
        back = read_back(file)
    assert back == given
    return clock.report(rows=len(back), mb=round(file.stat().st_size / 1e6, 1))


def measure_rules(path: Path, _: Path) -> Measures:
    """Time tidying white space and deriving the columns that rules are written on, without tokens."""
    rows, settings, clock = rows_of(path), ValidateSettings(), Clock()
    with clock.measured("row rules"):
        cleaned = [columns.clean(row, settings) for row in rows]
        columns.frame(cleaned, lambda *_: 0, settings.roles)
    return clock.report()


def measure_expectations(path: Path, folder: Path) -> Measures:
    """Time the whole of validation: columns, Great Expectations and its report, without tokens."""
    from tunemill.quality import expectations

    rows, clock = rows_of(path), Clock()
    with clock.measured("Great Expectations"):
        expectations.validate(rows, ValidateSettings(), lambda *_: 0, folder / "data_docs", {})
    return clock.report()


def measure_deduplicate(path: Path, folder: Path) -> Measures:
    """Time what the stage does, from the table that validate wrote to its own, and hold it against the truth."""
    rows, clock = rows_of(path), Clock()
    _warm(rows, folder)
    valid, clean = (_emptied(folder / f"{path.stem}-{name}") for name in ("valid", "clean"))
    write(valid / TABLE, rows)
    del rows
    with clock.measured("deduplicate"):
        found = dedup.deduplicate(valid, [TABLE], None, clean, SETTINGS)
    line = np.concatenate([segment.arrays["line"] for segment in found.segments])
    dropped = np.ones(line.size, np.bool_)
    dropped[line[found.kept] - 1] = False
    return clock.report(**score(path.with_suffix(".npz"), dropped))


def measure_clean_night(path: Path, folder: Path) -> Measures:
    """Time what the stage does with a night of new rows, after `measure_deduplicate`."""
    held = path.stem.replace("night", "rows")
    valid, before, clean = folder / f"{held}-valid", folder / f"{held}-clean", _emptied(folder / f"{path.stem}-clean")
    rows, clock = rows_of(path), Clock()
    _warm(rows, folder)
    write(valid / NIGHT, rows)
    with clock.measured("night"):
        found = dedup.deduplicate(valid, [NIGHT], before, clean, SETTINGS)
    count = found.kept.size - len(rows)
    line = np.concatenate([segment.arrays["line"] for segment in found.segments])[count:]
    dropped = np.ones(line.size, np.bool_)
    dropped[line[found.kept[count:]] - 1] = False
    return clock.report(new=len(rows), held=count, **score(path.with_suffix(".npz"), dropped, count))


def measure_index(path: Path, folder: Path, only: str = "") -> Measures:
    """Time the index from nothing: normalised texts, one segment written, labels; and hold it against the truth.

    `only` names the role whose turns are compared, where it is not all of them.
    """
    rows, clock = rows_of(path), Clock()
    _warm(rows, folder)
    tables = {TABLE: _table(rows, folder, only)}
    del rows
    with clock.measured("normalise"):
        columns = columns_of(tables)
    target = folder / f"{path.stem}-index-{only}"
    shutil.rmtree(target, ignore_errors=True)
    with clock.measured("grow"):
        segment = index.grow([], columns, SETTINGS, target)
    with clock.measured("labels"):
        labels = index.labels([segment])
    line = segment.arrays["line"]
    size = sum(file.stat().st_size for file in target.iterdir()) / 1e6
    dropped = np.empty(line.size, np.bool_)
    dropped[line - 1] = labels != np.arange(labels.size)
    mean = columns.texts.size / line.size
    found = score(path.with_suffix(".npz"), dropped)
    return clock.report(characters=round(mean, 1), index_mb=round(size, 1), links=len(segment.arrays["links"]), **found)


def measure_prompts(path: Path, folder: Path) -> Measures:
    """Time the index on the prompts alone."""
    return measure_index(path, folder, "user")


def measure_night(path: Path, folder: Path) -> Measures:
    """Time a night of new rows on an index that `measure_index` left behind."""
    base = folder / f"{path.stem.replace('night', 'rows')}-index-"
    rows, clock = rows_of(path), Clock()
    _warm(rows, folder)
    with clock.measured("open"):
        held = open_segments([base], check=False)
    with clock.measured("check every byte"):
        open_segments([base])
    count, table = held[0].header.rows, _table(rows, folder)
    target = folder / f"{path.stem}"
    shutil.rmtree(target, ignore_errors=True)
    with clock.measured("night"):
        new = index.grow(held, columns_of({NIGHT: table}), SETTINGS, target)
        labels = index.labels([*held, new])
    dropped = np.empty(len(rows), np.bool_)
    dropped[new.arrays["line"] - 1] = labels[count:] != np.arange(count, labels.size)
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
    """Compile every loop on a few rows, in two nights."""
    warm = _emptied(folder / "warm")
    for night, before in (("0", None), ("1", warm / "0")):
        (warm / night).mkdir()
        write(warm / f"{night}.parquet", rows[: WARM // (int(night) + 1)])
        dedup.deduplicate(warm, [f"{night}.parquet"], before, warm / night, SETTINGS)


def _table(rows: list[Row], folder: Path, only: str = "") -> "pa.Table":
    """Give rows, or the turns of one role of each, as the table in which a stage reads them."""
    import pyarrow.parquet as pq

    some = (with_messages(row, tuple(turn for turn in row.messages if only in ("", turn.role))) for row in rows)
    write(folder / "some.parquet", some)
    return pq.read_table(folder / "some.parquet")


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


STAGES: dict[str, Callable[[Path, Path], Measures]] = {
    "read": measure_read,
    "parquet": measure_parquet,
    "rules": measure_rules,
    "expectations": measure_expectations,
    "deduplicate": measure_deduplicate,
    "clean-night": measure_clean_night,
    "index": measure_index,
    "prompts": measure_prompts,
    "night": measure_night,
    "split": measure_split,
}

if __name__ == "__main__":
    print(json.dumps(STAGES[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))))
