"""A safetensors file with facts in its header: the tensors behind it are the same bytes."""

import errno
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tunemill.errors import ModelError
from tunemill.exporting import safetensors_header
from tunemill.exporting.safetensors_header import header, metadata, stamp, tensor_digest

FACTS = {
    "tunemill.run": "20261124T120000-abcdef",
    "tunemill.dataset": "42" * 16,
    "tunemill.verdict": "besser als »base«",
}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Write three tensors of two types, 2,102 bytes in all, as PEFT and transformers do."""
    tensors = {
        "layer.weight": np.arange(512, dtype=np.float32).reshape(16, 32),
        "layer.bias": np.full(25, 7, np.uint16),
        "none": np.zeros((0, 4), np.float16),
    }
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "model.safetensors"


def tail(path: Path, count: int) -> str:
    return hashlib.sha256(path.read_bytes()[-count:]).hexdigest()


def test_a_stamped_file_carries_the_facts_beside_what_it_carried(weights: Path, tmp_path: Path) -> None:
    stamp(weights, tmp_path / "out.safetensors", FACTS)
    assert metadata(tmp_path / "out.safetensors") == {"format": "pt", **FACTS}


def test_the_keys_are_sorted(weights: Path, tmp_path: Path) -> None:
    stamp(weights, tmp_path / "out.safetensors", FACTS)
    keys = list(metadata(tmp_path / "out.safetensors"))
    assert keys == ["format", "tunemill.dataset", "tunemill.run", "tunemill.verdict"]


def test_the_last_2098_bytes_which_are_the_tensors_stay(weights: Path, tmp_path: Path) -> None:
    stamp(weights, tmp_path / "out.safetensors", FACTS)
    assert tail(tmp_path / "out.safetensors", 2098) == tail(weights, 2098) == tensor_digest(weights)
    assert tensor_digest(tmp_path / "out.safetensors") == tensor_digest(weights)


def test_safetensors_itself_loads_the_same_tensors_and_the_facts(weights: Path, tmp_path: Path) -> None:
    stamp(weights, tmp_path / "out.safetensors", FACTS)
    before, after = load_file(weights), load_file(tmp_path / "out.safetensors")
    assert list(before) == list(after)
    assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    with safe_open(tmp_path / "out.safetensors", "np") as opened:
        assert opened.metadata()["tunemill.dataset"] == "42" * 16


def test_the_tensors_begin_at_a_multiple_of_eight_bytes(weights: Path, tmp_path: Path) -> None:
    for length in range(9):
        stamp(weights, tmp_path / "out.safetensors", {"tunemill.run": "x" * length})
        assert header(tmp_path / "out.safetensors").start % 8 == 0


def test_facts_of_an_earlier_stamp_are_gone(weights: Path, tmp_path: Path) -> None:
    stamp(weights, tmp_path / "one.safetensors", {"tunemill.run": "one", "tunemill.old": "yes"})
    stamp(tmp_path / "one.safetensors", tmp_path / "two.safetensors", {"tunemill.run": "two"})
    assert metadata(tmp_path / "two.safetensors") == {"format": "pt", "tunemill.run": "two"}


def test_the_same_facts_make_the_same_bytes(weights: Path, tmp_path: Path) -> None:
    stamp(weights, tmp_path / "one.safetensors", FACTS)
    stamp(weights, tmp_path / "two.safetensors", dict(reversed(FACTS.items())))
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_a_disk_that_cannot_copy_in_the_kernel_gets_the_same_bytes(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp(weights, tmp_path / "one.safetensors", FACTS)
    real = os.copy_file_range

    def first_part_only(source: int, target: int, count: int, offset: int) -> int:
        if offset > header(weights).start:
            raise OSError(errno.EXDEV, "another disk")
        return real(source, target, 1000, offset)

    monkeypatch.setattr(safetensors_header.os, "copy_file_range", first_part_only)
    stamp(weights, tmp_path / "two.safetensors", FACTS)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


def test_stamping_does_not_hold_the_file_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    save_file({"weight": np.zeros(16_000_000, np.float32)}, tmp_path / "big.safetensors")
    tracemalloc.start()
    stamp(tmp_path / "big.safetensors", tmp_path / "out.safetensors", FACTS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out.safetensors").stat().st_size > 64_000_000
    assert peak < 6_000_000, peak


@pytest.mark.parametrize("size", [0, 7, 8, 100, 2000])
def test_a_file_that_ends_too_early_is_named_with_its_bytes(size: int, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "torn.safetensors").write_bytes(weights.read_bytes()[:size])
    with pytest.raises(ModelError, match=rf"torn\.safetensors .*{size:,} bytes"):
        stamp(tmp_path / "torn.safetensors", tmp_path / "out.safetensors", FACTS)
    assert not (tmp_path / "out.safetensors").exists()


def test_bytes_behind_the_last_tensor_are_an_error(weights: Path) -> None:
    with weights.open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="make it again"):
        metadata(weights)


def test_a_header_that_is_no_json_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes((4).to_bytes(8, "little") + b"oops")
    with pytest.raises(ModelError, match="its header cannot be read"):
        metadata(tmp_path / "x.safetensors")


def test_a_tensor_keeps_its_place_behind_the_header(weights: Path, tmp_path: Path) -> None:
    stamp(weights, tmp_path / "out.safetensors", FACTS)
    before, after = header(weights).entries, header(tmp_path / "out.safetensors").entries
    assert json.dumps({k: v for k, v in before.items() if k != "__metadata__"}) == json.dumps(
        {k: v for k, v in after.items() if k != "__metadata__"}
    )
