"""The stage that reads: every record is written once, and no file is read that may still be written."""

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.ingest import closed_files, ingest, remember
from tasks.run import Listener, listening
from tasks.trace import trace
from tasks.trace_text import shown
from tunemill import rows, segments
from tunemill.artifacts import SourceFile, SourceFiles
from tunemill.errors import DataError
from tunemill.files import hash_file
from tunemill.home import Home
from tunemill.quality.gathered import files_of, funnel_of
from tunemill.quality.page_rows import Side
from tunemill.sources.settings import IngestSettings
from tunemill.store import Store

ASKED = {"messages": [{"role": "user", "content": "Hi"}], "model": "m"}


def log(answer: str, **more: object) -> dict[str, object]:
    choices = [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]
    return {"request": ASKED, "response": {"choices": choices}, "timestamp": "2026-02-01", **more}


MIXED = [
    log("Hello"),
    log("Hey", timestamp="2026-01-01"),
    log("Go away", feedback="thumbs_down"),
    log("", timestamp="2026-02-02"),
    log("Good day", workload_id="other"),
    {"timestamp": "2026-02-03", "prompt": "Hi", "chosen": "Hello!", "rejected": "Go!"},
]


class Heard(Listener):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    found = Home.find()
    found.enter()
    return found


@pytest.fixture
def given(tmp_path: Path) -> SourceFiles:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in MIXED))
    return SourceFiles(files=(SourceFile(sha256=hash_file(path), path=str(path)),))


def settings(**more: object) -> IngestSettings:
    return IngestSettings.model_validate({"files": "log.jsonl", "max_rejected": 0.9, **more})


def test_6_records_are_3_rows_2_rejected_and_1_passed_over(home: Home, given: SourceFiles) -> None:
    store = Store(home.store)
    raw = ingest.run(store, given, settings(where={"since": "2026-01-15"}))
    assert {name: raw.counts[name] for name in ("rows", "rejected", "passed_over", "disliked")} == {
        "rows": 3, "rejected": 2, "passed_over": 1, "disliked": 0,
    }  # fmt: skip
    folder = store.open(raw)
    kept = segments.read(folder / "rows")
    assert [row.answer for row in kept] == ["Hello", "Good day", "Hello!"]
    assert [r["reason"] for r in rows.read_lines(folder / "rejected.jsonl")] == ["thumbs down", "empty answer"]
    passed = segments.table(folder / "passed_over").to_pylist()
    assert [(one["line"], one["reason"], one["source"]) for one in passed] == [(2, "too early", kept[0].source)]


def test_thumbs_down_that_are_kept_stand_in_a_file_of_their_own(home: Home, given: SourceFiles) -> None:
    store = Store(home.store)
    raw = ingest.run(store, given, settings(thumbs_down="keep"))
    folder = store.open(raw)
    assert (raw.counts["rows"], raw.counts["disliked"], raw.counts["rejected"]) == (4, 1, 1)
    assert [row.answer for row in segments.read(folder / "disliked")] == ["Go away"]
    assert all(row.liked is not False for row in segments.read(folder / "rows"))


def test_a_record_that_was_passed_over_and_one_that_was_kept_apart_can_be_traced(
    home: Home, given: SourceFiles
) -> None:
    remember(given.files, home.root / "sources.jsonl")
    ingest.run(Store(home.store), given, settings(where={"since": "2026-01-15"}, thumbs_down="keep"))
    assert "passed over: too early: " in shown(trace(f"{given.files[0].path}:2"))
    assert "passed over: thumbs down, kept apart: stands in disliked" in shown(trace(f"{given.files[0].path}:3"))


def test_the_data_page_counts_every_record_that_was_read(home: Home, given: SourceFiles, tmp_path: Path) -> None:
    store = Store(home.store)
    raw = ingest.run(store, given, settings(where={"since": "2026-01-15"}, thumbs_down="keep"))
    for name in ("rejected", "bridges", "contaminated"):
        (tmp_path / f"{name}.jsonl").touch()
    folders = {"ingest": store.open(raw), "validate": tmp_path, "deduplicate": tmp_path, "split": tmp_path}
    sides = {side: Side(3 if side == "train" else 0, Counter(), []) for side in ("train", "validation", "test")}
    found = funnel_of(folders, raw.counts["rows"], sides, [], [])
    assert (found.read, found.left_out, found.unaccounted) == (6, 3, 0)
    assert {loss.reason for loss in found.losses} == {"too early", "thumbs down, kept apart", "empty answer"}
    (numbers,) = files_of(folders, sides, [], []).values()
    assert (numbers["read"], numbers["not read"], numbers["set aside"]) == (6, 1, 2)


def test_a_filter_that_leaves_nothing_stops_with_the_reasons(home: Home, given: SourceFiles) -> None:
    with pytest.raises(DataError) as stopped:
        ingest.run(Store(home.store), given, settings(where={"workload": "mine"}))
    said = str(stopped.value)
    assert said.startswith("ingest: 0 rows; 6 records passed over")
    assert "  5  no workload  e.g. " in said and "  1  other workload  e.g. " in said
    assert "widen ingest.where" in said


def test_a_file_that_grows_while_it_is_read_is_thrown_away(home: Home, given: SourceFiles) -> None:
    path = Path(given.files[0].path)
    path.write_text(path.read_text() + json.dumps(log("One more")) + "\n")
    with pytest.raises(DataError, match=r"log\.jsonl changed while it was read"):
        ingest.run(Store(home.store), given, settings())


@pytest.fixture
def night(tmp_path: Path) -> Callable[..., Path]:
    """Write a log that was last changed so many seconds ago."""

    def write(name: str, age: float) -> Path:
        path = tmp_path / "logs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(log(name)) + "\n")
        os.utime(path, (path.stat().st_mtime - age,) * 2)
        return path

    return write


def test_a_file_that_may_still_be_written_is_passed_over_and_named(home: Home, night: Callable[..., Path]) -> None:
    done, new = night("done.jsonl", 60), night("new.jsonl", 0)
    heard = Heard()
    with listening(heard):
        found = closed_files(settings(files=str(done.parent)))
    assert [file.path for file in found.files] == [str(done)]
    (warning,) = heard.warnings
    assert f"{new} is not read: it was changed" in warning


def test_where_no_file_is_closed_the_run_stops_with_the_way_out(home: Home, night: Callable[..., Path]) -> None:
    new = night("new.jsonl", 0)
    with pytest.raises(DataError) as stopped:
        closed_files(settings(files=str(new.parent / "*")))
    said = str(stopped.value)
    assert said.startswith("ingest: none of 1 files is closed") and "new.jsonl is not read" in said
    assert "name in ingest.files each file that is whole" in said


def test_a_new_file_that_is_named_is_read(home: Home, night: Callable[..., Path]) -> None:
    new = night("new.jsonl", 0)
    assert [file.path for file in closed_files(settings(files=str(new))).files] == [str(new)]
