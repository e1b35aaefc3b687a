"""Datasets of a hub: the real `datasets` library against a server on this machine that answers as the hub does."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from tasks.ingest import closed_files, ingest
from tests.sources.hub_server import Hub, serving
from tunemill import rows, segments
from tunemill.home import PROJECT
from tunemill.sources import read as read_file
from tunemill.sources.settings import IngestSettings
from tunemill.store import Store

OLD, NEW = "a" * 40, "b" * 40
CARD = b"""---
configs:
- config_name: chats
  default: true
  data_files: [{split: train, path: chats/train-*.jsonl}, {split: test, path: chats/test.jsonl}]
- config_name: pairs
  data_files: [{split: train, path: pairs.jsonl}]
- config_name: dates
  data_files: [{split: train, path: dates.jsonl}]
---
"""
CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
QUESTION = {"prompt": "When?", "completion": "Now", "time": "2026-01-31"}
TRAIN = [CHAT, QUESTION, {"prompt": "Why?", "completion": "So"}]
PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go away"}
DATE = {"prompt": "Which day?", "completion": "2026-01-31"}
PROGRAM = """
import sys, orjson
from tunemill.home import Home
Home.find().enter()
from tasks.ingest import closed_files
from tunemill.errors import DataError
from tunemill.sources.settings import IngestSettings
told = []
for asked in orjson.loads(sys.argv[1]):
    try:
        settings = IngestSettings.model_validate({"datasets": asked})
        told.append([[file.path for file in closed_files(settings).files], ""])
    except DataError as error:
        told.append([[], str(error)])
sys.stdout.buffer.write(orjson.dumps(told))
"""
ASKED = {
    "a tag": {"revision": "v1"},
    "a branch": {"revision": "main"},
    "another config": {"revision": "main", "config": "pairs"},
    "the default config and another split": {"revision": "v1", "config": "chats", "split": "test"},
    "a slice": {"revision": "v1", "split": "train[:1]"},
    "a column of dates": {"revision": "main", "config": "dates"},
    "a commit that is not there": {"revision": "c" * 40},
    "a dataset that is not there": {"hub": "acme/none", "revision": "main"},
    "a split that is not there": {"revision": "main", "split": "dev"},
    "a config that is not there": {"revision": "main", "config": "essays"},
}
"""What is asked of the hub, by one process after another."""

Told = dict[str, tuple[list[Path], str]]
"""The files, or the message of the error."""


def lines(*records: object) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


def asked_by(home: Path, address: str, asked: dict[str, dict[str, str]]) -> Told:
    """Ask in a process of its own, since the address of the hub is read when its library is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    more = {"HF_ENDPOINT": address, "TUNEMILL_HOME": str(home), "HOME": str(home.parent)}
    path = os.pathsep.join(filter(None, (str(PROJECT / "src"), str(PROJECT))))
    datasets = orjson.dumps([{"hub": "acme/desk", **dataset} for dataset in asked.values()]).decode()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, datasets],
        cwd=home.parent, env={**kept, **more, "PYTHONPATH": path}, capture_output=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    found = zip(asked, orjson.loads(done.stdout), strict=True)
    return {name: ([Path(path) for path in files], error) for name, (files, error) in found}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """Serve a dataset of three configs and two commits; `main` is the newer."""
    commits = {}
    for commit, more in ((OLD, []), (NEW, [QUESTION])):
        folder = commits[commit] = tmp_path_factory.mktemp("commit")
        (folder / "chats").mkdir()
        (folder / "README.md").write_bytes(CARD)
        (folder / "chats" / "train-0.jsonl").write_bytes(lines(*TRAIN[:2]))
        (folder / "chats" / "train-1.jsonl").write_bytes(lines(TRAIN[2], *more))
        (folder / "chats" / "test.jsonl").write_bytes(lines(QUESTION))
        (folder / "pairs.jsonl").write_bytes(lines(PAIR))
        (folder / "dates.jsonl").write_bytes(lines(DATE, DATE))
    with serving("acme/desk", commits, {"main": NEW, "v1": OLD}) as hub:
        yield hub


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place") / "home"


@pytest.fixture(scope="module")
def told(home: Path, hub: Hub) -> Told:
    return asked_by(home, hub.address, ASKED)


@pytest.fixture
def read(told: Told, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[list[rows.Row], list[str]]]:
    """Ingest what is held, without the hub: its rows, and the reasons of what was rejected."""
    monkeypatch.setenv("TUNEMILL_HOME", str(home))

    def ingested(name: str) -> tuple[list[rows.Row], list[str]]:
        exact = {**ASKED[name], "revision": told[name][0][0].parent.name}
        settings = IngestSettings.model_validate({"datasets": {"hub": "acme/desk", **exact}, "max_rejected": 1})
        store = Store(home / "store")
        files = closed_files(settings)
        assert [Path(file.path) for file in files.files] == told[name][0]
        folder = store.open(ingest.run(store, files, settings))
        rejected = [one["reason"] for one in rows.read_lines(folder / "rejected.jsonl")]
        return segments.read(folder / "rows"), rejected

    return ingested


def test_a_revision_is_held_under_its_commit_config_and_split(told: Told, home: Path) -> None:
    held = {name: str(files[0].relative_to(home / "datasets")) for name, (files, error) in told.items() if not error}
    assert held == {
        "a tag": f"acme--desk/{OLD}/default.train.jsonl",
        "a branch": f"acme--desk/{NEW}/default.train.jsonl",
        "another config": f"acme--desk/{NEW}/pairs.train.jsonl",
        "the default config and another split": f"acme--desk/{OLD}/chats.test.jsonl",
        "a slice": f"acme--desk/{OLD}/default.train%5B%3A1%5D.jsonl",
        "a column of dates": f"acme--desk/{NEW}/dates.train.jsonl",
    }


def test_3_rows_of_two_files_and_shapes_are_read_without_the_hub_with_their_numbers_as_lines(
    read: Callable[[str], tuple[list[rows.Row], list[str]]],
) -> None:
    kept, rejected = read("a tag")
    found = [(row.line, row.answer, row.time) for row in sorted(kept, key=lambda row: row.line)]
    assert (found, rejected) == (
        [(1, "Hello", None), (2, "Now", "2026-01-31T00:00:00.000000+00:00"), (3, "So", None)],
        [],
    )


def test_a_slice_is_1_row_the_moved_branch_4_and_a_pair_keeps_its_rejected_answer(
    told: Told, read: Callable[[str], tuple[list[rows.Row], list[str]]]
) -> None:
    assert [told[name][0][0].read_bytes().count(b"\n") for name in ("a slice", "a branch")] == [1, 4]
    (pair,) = read("another config")[0]
    assert pair.rejected and pair.rejected[0].content == "Go away"


def test_answers_that_the_library_took_for_times_are_rejected_and_not_trained_in_another_form(told: Told) -> None:
    settings = IngestSettings(files="a")
    found = list(read_file(told["a column of dates"][0][0], "d", settings))
    assert [(one.line, one.reason) for one in found if isinstance(one, rows.Rejected)] == [
        (1, "wrong type"),
        (2, "wrong type"),
    ]


def test_nothing_is_written_outside_the_home_nor_counted_and_the_tables_of_the_library_go(
    told: Told, home: Path, hub: Hub
) -> None:
    assert [place.name for place in home.parent.iterdir()] == ["home"]
    assert not (home / "downloads" / "datasets" / f"acme--desk@{OLD}").exists()
    assert all(asked.split("/")[1] in ("api", "datasets") for asked in hub.asked)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a commit that is not there", f"acme/desk@{'c' * 40}, config default, split train was not fetched"),
        ("a commit that is not there", "RevisionNotFoundError"),
        ("a dataset that is not there", "RepositoryNotFoundError"),
        ("a dataset that is not there", "no commit of it is held"),
        ("a split that is not there", "Unknown split \"dev\". Should be one of ['train', 'test']"),
        ("a config that is not there", "BuilderConfig 'essays' not found. Available: ['chats', 'pairs', 'dates']"),
    ],
)
def test_what_the_hub_does_not_have_is_an_error_in_its_words(told: Told, name: str, said: str) -> None:
    assert told[name][0] == [] and said in told[name][1]


def test_without_a_hub_a_held_commit_is_read_and_a_branch_and_another_commit_say_what_is_held(
    told: Told, home: Path
) -> None:
    asked = {revision: {"revision": revision} for revision in (OLD, "main", "c" * 40)}
    found = asked_by(home, "http://127.0.0.1:9", asked)
    assert found[OLD] == told["a tag"]
    for revision in ("main", "c" * 40):
        assert "from http://127.0.0.1:9: ConnectError: " in found[revision][1]
        assert f"held of it are the commits {OLD}, {NEW}." in found[revision][1]


def test_importing_ingest_imports_no_library_of_the_hub() -> None:
    code = "import sys, tasks.ingest; sys.exit(len({'datasets', 'huggingface_hub'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0
