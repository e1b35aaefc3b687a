from pathlib import Path

import pytest

from tunemill.artifacts import RawDataset
from tunemill.errors import ArtifactDamaged, StoreError
from tunemill.store import Store


def sealed(store: Store, text: str = "one", key: str = "k" * 32) -> RawDataset:
    with store.work("ingest", key) as work:
        (work.folder / "rows.txt").write_text(text)
        (work.report / "page.md").write_text("read me")
        work.seal(RawDataset, rows=3)
        return store.commit(work, RawDataset, {"stage": "ingest"}, {})


def test_a_sealed_artifact_is_found_with_its_counts(tmp_path: Path) -> None:
    artifact = sealed(Store(tmp_path))
    folder = Store(tmp_path).open(artifact)
    assert (folder / "rows.txt").read_text() == "one"
    assert artifact.counts == {"rows": 3}


def test_files_under_report_do_not_change_the_digest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = sealed(store)
    with store.work("ingest", "j" * 32) as work:
        (work.folder / "rows.txt").write_text("one")
        work.seal(RawDataset)
        second = store.commit(work, RawDataset, {}, {})
    assert first.digest == second.digest


def test_a_flipped_bit_is_named_and_the_folder_set_aside(tmp_path: Path) -> None:
    artifact = sealed(Store(tmp_path))
    file = tmp_path / "ingest" / artifact.key / "rows.txt"
    data = bytearray(file.read_bytes())
    data[1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtifactDamaged, match=r"rows\.txt: the bytes differ"):
        Store(tmp_path).check("ingest", artifact.key)
    held, damage = Store(tmp_path).held("ingest", artifact.key)
    assert held is None
    assert damage is not None and damage.file == "rows.txt"
    assert not file.exists()


def test_a_folder_without_a_manifest_does_not_exist(tmp_path: Path) -> None:
    artifact = sealed(Store(tmp_path))
    (tmp_path / "ingest" / artifact.key / "manifest.json").unlink()
    with pytest.raises(StoreError, match="is not there"):
        Store(tmp_path).open(artifact)
    assert sealed(Store(tmp_path)).digest == artifact.digest


def test_the_first_of_two_commits_stands(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = sealed(store, "one")
    second = sealed(store, "two")
    assert second.digest == first.digest
    assert len(store.find("k")) == 1


def test_a_dead_process_leaves_nothing_after_a_sweep(tmp_path: Path) -> None:
    dead = tmp_path / "ingest" / ".new-999999999-1-abcdef01"
    dead.mkdir(parents=True)
    store = Store(tmp_path)
    with store.work("ingest", "k" * 32) as mine:
        assert store.sweep() == 1
        assert mine.folder.exists()
    assert not dead.exists()


def test_a_file_that_is_written_after_the_folder_was_sealed_stops_the_commit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.work("ingest", "k" * 32) as work:
        work.seal(RawDataset)
        (work.folder / "rows.txt").write_text("late")
        with pytest.raises(StoreError, match="files changed after it was sealed"):
            store.commit(work, RawDataset, {}, {})
    assert store.manifest("ingest", "k" * 32) is None


def test_the_digits_of_a_key_name_a_dataset_before_any_part_of_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for stage, key in (("ingest", "ka" * 16), ("ingest-file", "kb" * 16)):
        with store.work(stage, key) as work:
            work.seal(RawDataset)
            store.commit(work, RawDataset, {}, {})
    assert [found.stage for found in store.find("k")] == ["ingest"]
    assert [found.stage for found in store.find("kb")] == ["ingest-file"]
