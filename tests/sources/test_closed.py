"""A file that may still be written is not read."""

import os
from pathlib import Path

import pytest

from tunemill.sources import expand
from tunemill.sources.closed import Closed, still_open

NOW = 1_800_000_000.0


def open_of(root: Path, files: str | list[str], **rule: object) -> dict[str, str]:
    listed = [files] if isinstance(files, str) else files
    found = still_open(expand(listed, root), listed, root, Closed.model_validate(rule), NOW)
    return {path.name: why for path, why in found.items()}


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Five files, last changed 1, 4, 5, 3,600 seconds ago and 1 hour from now."""
    for name, age in (("a", 1), ("b", 4), ("c", 5), ("d", 3_600), ("ahead", -3_600)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("{}\n")
        os.utime(path, (NOW - age, NOW - age))
    return tmp_path.resolve()


@pytest.mark.parametrize("files", [".", "*.jsonl"])
def test_files_of_a_folder_or_glob_that_were_changed_in_the_last_5_seconds_are_open(logs: Path, files: str) -> None:
    assert open_of(logs, files) == {
        "a.jsonl": "it was changed 1.0 s ago, less than the 5 s of ingest.closed.seconds",
        "b.jsonl": "it was changed 4.0 s ago, less than the 5 s of ingest.closed.seconds",
    }


def test_a_file_that_is_named_is_taken_whatever_its_age(logs: Path) -> None:
    assert list(open_of(logs, ["a.jsonl", "*.jsonl"])) == ["b.jsonl"]


@pytest.mark.parametrize(("seconds", "still"), [(0, 0), (2, 1), (60, 3), (86_400, 5)])
def test_the_age_can_be_set(logs: Path, seconds: int, still: int) -> None:
    assert len(open_of(logs, ".", seconds=seconds)) == still


def test_only_rotated_names_are_closed_where_a_rule_says_so(logs: Path) -> None:
    found = open_of(logs, ".", seconds=0, names="[cd].jsonl")
    assert sorted(found) == ["a.jsonl", "ahead.jsonl", "b.jsonl"]
    assert found["a.jsonl"] == "its name does not match `[cd].jsonl`, ingest.closed.names"


def test_a_file_is_closed_once_its_marker_stands_beside_it(logs: Path) -> None:
    (logs / "d.jsonl.done").touch()
    found = open_of(logs, "*.jsonl", marker=".done")
    assert sorted(found) == ["a.jsonl", "ahead.jsonl", "b.jsonl", "c.jsonl"]
    assert found["c.jsonl"] == "there is no c.jsonl.done beside it, ingest.closed.marker"
