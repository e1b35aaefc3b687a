import random
from pathlib import Path

import pytest

from tasks.ingest import ingest
from tasks.run import Listener, listening
from tasks.stage import changed, worth_retrying
from tunemill import faults, rows
from tunemill.artifacts import SourceFile, SourceFiles
from tunemill.errors import DataError
from tunemill.files import hash_file
from tunemill.sources.settings import IngestSettings
from tunemill.store import Store

LINE = '{"prompt": "question %d", "completion": "answer %d"}\n'


def files(folder: Path, *names: str) -> SourceFiles:
    folder.mkdir(exist_ok=True)
    found = []
    for number, name in enumerate(names):
        (folder / name).write_text("".join(LINE % (i, i) for i in range(number * 10, number * 10 + 10)))
        found.append(SourceFile(sha256=hash_file(folder / name), path=str(folder / name)))
    return SourceFiles(files=tuple(found))


def settings(**given: object) -> IngestSettings:
    return IngestSettings.model_validate({"files": ["*.jsonl"], **given})


def test_renaming_and_reordering_files_finds_the_same_folder(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = ingest.run(store, files(tmp_path / "one", "a.jsonl", "b.jsonl"), settings())
    named = files(tmp_path / "two", "y.jsonl", "x.jsonl")
    shuffled = SourceFiles(files=tuple(random.Random(3).sample(named.files, 2)))
    assert ingest.run(store, shuffled, settings(files=["elsewhere"])) == first
    assert first.counts["rows"] == 20


def test_a_changed_setting_is_named_by_its_part_of_the_key(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    given = files(tmp_path / "one", "a.jsonl")
    ingest.run(store, given, settings())
    parts = ingest.parts({"files": given, "settings": settings(max_rejected=0.5)})
    assert changed(parts, store.manifests("ingest")) == ["section.settings.max_rejected 0.05 → 0.5"]


def test_too_many_bad_lines_stop_with_the_count_the_place_and_the_list(tmp_path: Path) -> None:
    given = files(tmp_path / "one", "a.jsonl")
    path = Path(given.files[0].path)
    path.write_text(path.read_text() + "{broken\n")
    given = SourceFiles(files=(SourceFile(sha256=hash_file(path), path=str(path)),))
    with pytest.raises(DataError, match=r"1 of 11 records rejected \(9\.1%\); the limit is 5\.0%") as caught:
        ingest.run(Store(tmp_path / "store"), given, settings())
    assert f"{path}:11" in str(caught.value)
    listed = next(tmp_path.glob("store/ingest/.resume-*/rejected.jsonl"))
    assert [r["line"] for r in rows.read_lines(listed)] == [11]


def test_a_fault_of_the_world_is_worth_a_retry_and_ours_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEMILL_FAULT", "ingest.begin:fail:2")
    monkeypatch.setenv("TUNEMILL_FAULT_COUNT", str(tmp_path / "count"))
    store, given = Store(tmp_path / "store"), files(tmp_path / "one", "a.jsonl")
    for _ in range(2):
        with pytest.raises(faults.InjectedFault) as caught:
            ingest.run(store, given, settings())
        assert worth_retrying(caught.value)
    assert ingest.run(store, given, settings()).counts["rows"] == 10
    assert not worth_retrying(DataError("ours"))


def test_a_file_that_ends_too_early_is_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "chats.json"
    path.write_text("[" + (LINE % (1, 1)).strip() + ", " + (LINE % (2, 2)).strip()[:20])
    given = SourceFiles(files=(SourceFile(sha256=hash_file(path), path=str(path)),))
    heard: list[str] = []

    class Ear(Listener):
        def warn(self, message: str) -> None:
            heard.append(message)

    with listening(Ear()):
        made = ingest.run(Store(tmp_path / "store"), given, settings(max_rejected=1))
    assert made.counts["files_cut_short"] == 1
    assert made.counts["rows"] == 1
    assert f"{path} could not be read to its end" in heard[0]


def test_a_mapped_csv_and_chats_may_share_a_folder(tmp_path: Path) -> None:
    table, chats = tmp_path / "a.csv", tmp_path / "b.jsonl"
    table.write_text("q,a\nwhere?,here\n")
    chats.write_text(LINE % (1, 1))
    given = SourceFiles(files=tuple(SourceFile(sha256=hash_file(p), path=str(p)) for p in (table, chats)))
    mapped = settings(map={"prompt": "q", "answer": "a"})
    assert ingest.run(Store(tmp_path / "store"), given, mapped).counts["rows"] == 2
