"""A night reads and checks only new files, and its datasets do not tell which nights came before."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tunemill
from tasks.check_file import check_file
from tasks.ingest import ingest
from tasks.run import Listener, listening
from tasks.validate import rows_files, validate
from tests.exporting import test_export as small
from tests.stages.conftest import letter, put
from tunemill import segments
from tunemill.artifacts import RawDataset, SourceFile, SourceFiles, Tokenizer, ValidDataset
from tunemill.errors import DataError
from tunemill.files import hash_file
from tunemill.home import PROJECT, Home
from tunemill.quality.expectations import of_rows
from tunemill.quality.settings import ValidateSettings
from tunemill.sources.settings import IngestSettings
from tunemill.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    Home.find().enter()
    return Store(Home.find().store)


def log(folder: Path, number: int, *, bad: bool = False) -> SourceFile:
    """Write a file of three rows, of which validate rejects one, and of a line that is no record where it is `bad`."""
    path = folder / f"{number:04}.jsonl"
    lines = [{**letter(10 * number + n), "time": f"2026-01-{(7 * number + n) % 28 + 1:02}"} for n in range(2)]
    lines.append({**letter(10 * number + 2), "completion": "No."})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{broken\n" * bad)
    return SourceFile(sha256=hash_file(path), path=str(path))


def read(store: Store, *files: SourceFile, **settings: Any) -> RawDataset:
    asked = IngestSettings.model_validate({"files": ["*"], "max_rejected": 0.5, **settings})
    return ingest.run(store, SourceFiles(files=files), asked)


def rules(**settings: Any) -> ValidateSettings:
    return ValidateSettings.model_validate({"min_rows": 1, "max_rejected": 0.5, **settings})


def check(store: Store, raw: RawDataset, **settings: Any) -> ValidDataset:
    words = put(store, Tokenizer, small.tokenizer)
    return validate.run(store, raw, words, rules(**settings))


def parts(store: Store, stage: str) -> dict[str, int]:
    """Give the key of every part and when it was sealed."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (store.root / stage).glob("[!.]*/manifest.json")}


def runs(store: Store, valid: ValidDataset) -> int:
    """Count the results of Great Expectations on rows that the Data Docs of a validation show."""
    docs = store.open(valid) / "report" / "data_docs"
    return len(list(docs.glob("validations/rows/**/*.html")))


def test_a_new_file_is_read_and_checked_and_no_other(store: Store, tmp_path: Path) -> None:
    first, second = log(tmp_path, 1), log(tmp_path, 2)
    check(store, read(store, first))
    before = parts(store, "ingest-file") | parts(store, "validate-file")
    Path(first.path).unlink()
    valid = check(store, read(store, first, second))
    after = parts(store, "ingest-file") | parts(store, "validate-file")
    assert (len(before), len(after)) == (2, 4)
    assert before.items() <= after.items()
    assert (valid.counts["rows"], valid.counts["rejected"], runs(store, valid)) == (4, 2, 1)


def test_a_changed_limit_on_all_files_reads_none_of_them(store: Store, tmp_path: Path) -> None:
    file = log(tmp_path, 1, bad=True)
    raw = read(store, file)
    Path(file.path).unlink()
    again = read(store, file, max_rejected=0.4)
    assert (again.digest, again.key == raw.key, len(parts(store, "ingest-file"))) == (raw.digest, False, 1)
    with pytest.raises(DataError, match=r"1 of 4 records rejected \(25\.0%\); the limit is 10\.0%"):
        read(store, file, max_rejected=0.1)


def test_a_changed_limit_on_the_dataset_checks_no_row(store: Store, tmp_path: Path) -> None:
    raw = read(store, log(tmp_path, 1), log(tmp_path, 2))
    first, again = check(store, raw), check(store, raw, max_rejected=0.4)
    assert (first.digest, first.key == again.key, len(parts(store, "validate-file"))) == (again.digest, False, 2)
    report = (store.open(again) / "report" / "report.md").read_text()
    assert "No row was checked in this run: the counts are those of earlier runs, of 2 files." in report
    assert not (store.open(again) / "report" / "data_docs").exists()
    with pytest.raises(DataError, match=r"2 of 6 rows rejected \(33\.3%\); the limit is 30\.0%"):
        check(store, raw, max_rejected=0.3)


def test_the_report_on_held_parts_is_that_on_all_rows(store: Store, tmp_path: Path) -> None:
    raw = read(store, *(log(tmp_path, number) for number in range(4)))
    reports = []
    for allowed in (0.5, 0.4):
        folder = store.open(check(store, raw, max_rejected=allowed)) / "report"
        lines = (folder / "report.md").read_text().splitlines()
        reports.append([line for line in lines if "checked in this run" not in line])
        reports[-1].append(hash_file(folder / "tokens.png"))
    assert reports[0] == reports[1]
    assert (
        "| `answer` shorter than 50 characters | `expect_column_values_to_be_between` | 12 | 4 rows rejected |"
        in (reports[0])
    )


def test_a_file_that_is_gone_takes_its_rows_along_and_nothing_is_read(store: Store, tmp_path: Path) -> None:
    first, second = log(tmp_path, 1), log(tmp_path, 2)
    check(store, read(store, first, second))
    before = parts(store, "ingest-file") | parts(store, "validate-file")
    Path(first.path).unlink()
    valid = check(store, read(store, first))
    assert parts(store, "ingest-file") | parts(store, "validate-file") == before
    assert {row.source for row in segments.read(store.open(valid) / "rows")} == {first.sha256}


def test_300_files_are_checked_in_one_run_of_great_expectations(store: Store, tmp_path: Path) -> None:
    valid = check(store, read(store, *(log(tmp_path, number) for number in range(300))))
    assert (runs(store, valid), len(parts(store, "validate-file")), valid.counts["rows"]) == (1, 300, 600)


def test_datasets_do_not_tell_which_nights_came_before(store: Store, tmp_path: Path) -> None:
    files = [log(tmp_path, number, bad=number == 2) for number in range(4)]
    for night in (files[2:3], files[1:3], files):
        raw = read(store, *night)
        valid = check(store, raw)
    other = Store(tmp_path / "other")
    at_once = read(other, *files[::-1])
    assert (at_once.digest, at_once.key) == (raw.digest, raw.key)
    assert check(other, at_once) == valid
    manifests = [each.manifest("validate", valid.key) for each in (store, other)]
    assert manifests[0] and manifests[1]
    assert manifests[0].part("rows") == manifests[1].part("rows")
    assert sorted(os.listdir(store.open(valid) / "rows")) == sorted(f"{file.sha256}.parquet" for file in files)


def test_a_part_that_was_checked_among_others_is_the_one_that_is_checked_alone(store: Store, tmp_path: Path) -> None:
    raw = read(store, *(log(tmp_path, number) for number in range(5)))
    check(store, raw)
    alone = Store(tmp_path / "alone")
    words = put(alone, Tokenizer, small.tokenizer)
    for file in rows_files(store, raw):
        found = check_file.run(alone, file, words, of_rows(rules()))
        assert found == check_file.held(store, file, words, of_rows(rules()))


def test_what_was_read_before_a_kill_is_held_after_it(store: Store, tmp_path: Path) -> None:
    files = [log(tmp_path, number) for number in range(3)]
    script = """
import json, sys
from tasks.ingest import ingest
from tunemill.artifacts import SourceFiles
from tunemill.home import Home
from tunemill.sources.settings import IngestSettings
from tunemill.store import Store
files = SourceFiles.model_validate_json(sys.argv[1])
print(ingest.run(Store(Home.find().store), files, IngestSettings(files=["*"])).counts["rows"])
"""
    given = SourceFiles(files=tuple(files)).model_dump_json()
    places = f"{Path(tunemill.__file__).parents[1]}{os.pathsep}{PROJECT}"
    environment = {**os.environ, "PYTHONPATH": places, "TUNEMILL_FAULT": "ingest-file.sealed:kill"}
    command = [sys.executable, "-c", script, given]
    assert subprocess.run(command, env=environment).returncode == -signal.SIGKILL
    held = parts(store, "ingest-file")
    assert (len(held), parts(store, "ingest")) == (1, {})
    del environment["TUNEMILL_FAULT"]
    assert subprocess.run(command, env=environment, capture_output=True, check=True).stdout == b"9\n"
    assert held.items() <= parts(store, "ingest-file").items()
    assert len(parts(store, "ingest-file")) == 3


def test_a_file_that_was_cut_short_is_named_again_when_its_part_is_held(store: Store, tmp_path: Path) -> None:
    heard: list[str] = []

    class Ear(Listener):
        def warn(self, message: str) -> None:
            heard.append(message)

    path = tmp_path / "chats.json"
    path.write_text("[" + json.dumps(letter(1)) + ", " + json.dumps(letter(2))[:20])
    file = SourceFile(sha256=hash_file(path), path=str(path))
    with listening(Ear()):
        for allowed in (1.0, 0.9):
            assert read(store, file, max_rejected=allowed).counts["files_cut_short"] == 1
    assert len(parts(store, "ingest-file")) == 1
    assert heard[0] == heard[1]
    assert "could not be read to its end (broken JSON array)" in heard[0]


def test_a_damaged_part_is_read_again(store: Store, tmp_path: Path) -> None:
    first, second = log(tmp_path, 1), log(tmp_path, 2)
    read(store, first)
    table = next((store.root / "ingest-file").glob(f"*/rows/{first.sha256}.parquet"))
    data = bytearray(table.read_bytes())
    data[100] ^= 1
    table.write_bytes(data)
    raw = read(Store(store.root), first, second)
    assert raw.counts["rows"] == 6
    assert len(segments.read(Store(store.root).open(raw) / "rows")) == 6


def test_the_same_bytes_under_an_ending_of_another_format_are_read_again(store: Store, tmp_path: Path) -> None:
    table, lines = tmp_path / "a.csv", tmp_path / "a.jsonl"
    for path in (table, lines):
        path.write_text("prompt,completion\nwhere?,here\n")
    digest = hash_file(table)
    assert read(store, SourceFile(sha256=digest, path=str(table))).counts["rows"] == 1
    with pytest.raises(DataError, match="2 of 2 records rejected"):
        read(store, SourceFile(sha256=digest, path=str(lines)), max_rejected=0.4)


def test_a_rule_that_looks_at_other_rows_is_checked_on_all_rows_at_once(store: Store, tmp_path: Path) -> None:
    one, copy = log(tmp_path, 1), tmp_path / "copy.jsonl"
    copy.write_text(Path(one.path).read_text() + json.dumps(letter(99)) + "\n")
    raw = read(store, one, SourceFile(sha256=hash_file(copy), path=str(copy)))
    unique = {"type": "expect_column_values_to_be_unique", "column": "row_id"}
    valid = check(store, raw, expectations=[unique], max_rejected=0.9)
    assert (valid.counts["rows"], valid.counts["rejected"]) == (1, 6)
    assert os.listdir(store.open(valid) / "rows") == [f"{hash_file(copy)}.parquet"]
    assert parts(store, "validate-file") == {}


def test_a_rule_on_the_dataset_looks_at_the_rows_of_held_files_too(store: Store, tmp_path: Path) -> None:
    first, second = log(tmp_path, 1), log(tmp_path, 2)
    check(store, read(store, first))
    raw = read(store, first, second)
    mean = {"type": "expect_column_mean_to_be_between", "column": "tokens", "max_value": 1}
    with pytest.raises(DataError, match="the 4 rows left do not meet 1 of the dataset's expectations"):
        check(store, raw, expectations=[mean])
    valid = check(store, raw, expectations=[{**mean, "max_value": 1000}])
    mean_of_all = valid.counts["tokens"] / 4
    assert f"(observed {mean_of_all})" in (store.open(valid) / "report" / "report.md").read_text()
    assert len(parts(store, "validate-file")) == 2
