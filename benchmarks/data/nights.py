"""Measure the data stages themselves, through the store: from nothing, and a night of 1 % more rows on what is held.

    python -m benchmarks.data.nights --rows 100000

Each is a process of its own, as a night is, so imports count; loops are compiled before. CPU seconds count all threads.
Validation counts the tokens of every row with the tokenizer of the quickstart. Results go to
benchmarks/results/nights-<rows>.md and .json.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.data import corpus, environments
from benchmarks.data.clock import Clock, Measures, in_child
from benchmarks.data.machine import machine, sentence
from tunemill.artifacts import Artifact
from tunemill.files import replace
from tunemill.home import PROJECT, Home

STAGES = ("ingest", "validate", "deduplicate", "split", "page")
FILES = 10
"""Files that the first night brings; the second brings one more."""
CONFIG = "pipeline_configs/minimal.yaml"
RESULTS = PROJECT / "benchmarks/results"
LIMIT = 3_600

A = TypeVar("A", bound=Artifact)


def night(logs: Path) -> Measures:
    """Run the data stages over all files of a folder, and say what each took."""
    home = Home.find()
    home.enter()
    from tasks.deduplicate import deduplicate
    from tasks.history import earlier_clean, earlier_splits
    from tasks.ingest import closed_files, ingest
    from tasks.located import located_model
    from tasks.model import tokenizer
    from tasks.page import page
    from tasks.split import benchmark_files, split
    from tasks.validate import validate
    from tunemill.config import load
    from tunemill.quality.page_settings import Task
    from tunemill.store import Store

    asked = [f"ingest.files={logs}", "ingest.map=null", "split.by_user=false", "validate.max_tokens=2048"]
    config = load(PROJECT / CONFIG, asked)
    store, clock, counts = Store.at(home.store), Clock(), {}
    words = tokenizer.run(store, located_model(config.model))

    def timed(make: Callable[[], A]) -> A:
        stage = STAGES[len(clock.parts)]
        with clock.measured(stage):
            made = make()
        counts[stage] = made.counts
        return made

    given: list[Any] = []

    def read() -> Any:
        given.append(closed_files(config.ingest))
        return ingest.run(store, given[0], config.ingest)

    raw = timed(read)
    valid = timed(lambda: validate.run(store, raw, words, config.validation))
    clean = timed(lambda: deduplicate.run(store, valid, earlier_clean(valid, config.deduplicate), config.deduplicate))
    splits = timed(
        lambda: split.run(
            store, clean, earlier_splits(given[0], config.split), benchmark_files(config.split), config.split
        )
    )
    task = Task(type=config.task_type)
    timed(lambda: page.run(store, raw, valid, words, clean, splits, config.page, task))
    return clock.report(counts=counts)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data.nights", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000, help="rows held before the night (default: 100000)")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(night(asked.one)))
        return
    found: dict[str, Any] = {"machine": machine(["numpy", "pyarrow", "great_expectations", "tokenizers"])}
    here = os.environ.get("TUNEMILL_HOME")
    measured(1_000)  # compiles what later runs find compiled
    os.environ.pop("TUNEMILL_HOME") if here is None else os.environ.update(TUNEMILL_HOME=here)
    found |= measured(asked.rows)
    text = written(found, asked.rows)
    for ending, data in (("json", json.dumps(found, indent=2) + "\n"), ("md", text)):
        replace(RESULTS / f"nights-{asked.rows}.{ending}", data.encode())
    print(text)


def measured(rows: int) -> dict[str, Measures]:
    """Measure the first night, one more, and that again."""
    folder = environments.folder() / "nights"
    shutil.rmtree(folder, ignore_errors=True)
    logs, home, here = folder / "logs", folder / "home", Home.find()
    logs.mkdir(parents=True)
    home.mkdir()
    for name in ("downloads", "caches"):
        (here.root / name).mkdir(parents=True, exist_ok=True)
        (home / name).symlink_to(here.root / name)
    os.environ["TUNEMILL_HOME"] = str(home)
    command = [sys.executable, "-m", "benchmarks.data.nights", "--one", str(logs)]
    for number in range(FILES):
        _write(logs / f"{number:02}.jsonl", rows // FILES * number, rows // FILES * (number + 1))
    found = {"cold": in_child(command, LIMIT)}
    print(found["cold"].get("failed") or found["cold"]["parts"], file=sys.stderr, flush=True)
    _write(logs / f"{FILES:02}.jsonl", rows, rows + rows // 100)
    found["night"] = in_child(command, LIMIT)
    found["again"] = in_child(command, LIMIT)
    shutil.rmtree(folder, ignore_errors=True)
    return found


def _write(path: Path, start: int, end: int) -> None:
    corpus.write(path, end, 7, start)
    path.with_suffix(".npz").unlink()
    closed = path.stat().st_mtime - 3_600
    os.utime(path, (closed, closed))


def written(found: dict[str, Any], rows: int) -> str:
    """Give the page."""
    nights = [found[name] for name in ("cold", "night", "again")]
    if failed := [night["failed"] for night in nights if "failed" in night]:
        return f"# Nights\n\n{failed[0]}\n"
    lines = [
        f"# Nights: {rows:,} rows held, {rows // 100:,} new",
        "",
        sentence(found["machine"]),
        "",
        f"Made by `python -m benchmarks.data.nights --rows {rows}`. CPU seconds (wall seconds).",
        "",
        "| stage | from nothing | the night | share | nothing new |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for stage in (*STAGES, "together"):
        spent = [[_of(night, stage, unit) for unit in ("cpu", "wall")] for night in nights]
        cells = [f"{cpu:.2f} ({wall:.2f})" for cpu, wall in spent]
        lines.append(f"| {stage} | {cells[0]} | {cells[1]} | {spent[1][0] / spent[0][0]:.1%} | {cells[2]} |")
    peaks = " / ".join(f"{night['peak_mb']:,}" for night in nights)
    return "\n".join([*lines, "", f"Most memory held, in MB: {peaks}.", ""])


def _of(night: Measures, stage: str, unit: str) -> float:
    parts: dict[str, dict[str, float]] = night["parts"]
    return sum(each[unit] for each in parts.values()) if stage == "together" else parts[stage][unit]


if __name__ == "__main__":
    main()
