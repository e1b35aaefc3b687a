import json
from pathlib import Path

import pytest

from tunemill.store import MANIFEST
from tunemill.training import checkpoints
from tunemill.training.checkpoints import NEEDED, fault, newest_verified, prune, seal

ME, OTHER = "a" * 32, "b" * 32


def save(folder: Path, step: int, identity: str = ME, history: list[dict[str, float]] | None = None) -> Path:
    """Save what a Trainer saves, with contents that depend on the step, and seal it."""
    path = unsealed(folder, step, history)
    seal(path, step, identity)
    return path


def unsealed(folder: Path, step: int, history: list[dict[str, float]] | None = None) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    for name in NEEDED:
        (path / name).write_bytes(f"{name} of step {step}".encode() * 100)
    (path / "trainer_state.json").write_text(json.dumps({"log_history": history or []}))
    return path


def resumed(folder: Path) -> tuple[int | None, dict[int, str]]:
    """Give the step that is resumed from, and the reason for each that was passed over."""
    reasons: dict[int, str] = {}
    found = newest_verified(folder, ME, reasons.__setitem__)
    return (found.step if found else None), reasons


def test_the_newest_checkpoint_that_verifies_is_resumed_from(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        save(tmp_path, step)
    assert resumed(tmp_path) == (100, {})


def test_a_checkpoint_without_a_manifest_does_not_exist(tmp_path: Path) -> None:
    save(tmp_path, 10)
    unsealed(tmp_path, 20)
    assert resumed(tmp_path) == (10, {20: "it has no manifest: the training was killed while saving it"})


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_checkpoint_with_a_missing_file_is_passed_over(tmp_path: Path, name: str) -> None:
    save(tmp_path, 10)
    (save(tmp_path, 20) / name).unlink()
    assert resumed(tmp_path) == (10, {20: f"{name} is missing"})


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_checkpoint_with_one_flipped_bit_is_passed_over(tmp_path: Path, name: str) -> None:
    save(tmp_path, 10)
    path = save(tmp_path, 20) / name
    flipped = bytearray(path.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(bytes(flipped))
    step, reasons = resumed(tmp_path)
    assert step == 10 and reasons[20].startswith(f"{name} is not as it was saved")


def test_a_truncated_optimizer_is_passed_over_and_its_sizes_are_told(tmp_path: Path) -> None:
    save(tmp_path, 10)
    path = save(tmp_path, 20) / "optimizer.pt"
    path.write_bytes(path.read_bytes()[:7])
    assert resumed(tmp_path)[1] == {20: "optimizer.pt is not as it was saved (7 bytes, saved were 2,300)"}


def test_a_checkpoint_saved_without_its_optimizer_is_passed_over(tmp_path: Path) -> None:
    path = unsealed(tmp_path, 20)
    (path / "optimizer.pt").unlink()
    seal(path, 20, ME)
    assert resumed(tmp_path) == (None, {20: "optimizer.pt was never saved"})


def test_a_checkpoint_of_another_training_is_passed_over(tmp_path: Path) -> None:
    save(tmp_path, 20, OTHER)
    assert resumed(tmp_path) == (None, {20: "it belongs to another training (bbbbbbbbbbbb…)"})


def test_what_was_passed_over_is_set_aside_and_not_looked_at_again(tmp_path: Path) -> None:
    unsealed(tmp_path, 20)
    resumed(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["aside-checkpoint-20"]
    assert resumed(tmp_path) == (None, {})


def test_a_step_can_be_set_aside_twice(tmp_path: Path) -> None:
    for _ in range(2):
        unsealed(tmp_path, 20)
        assert resumed(tmp_path)[0] is None


def test_a_checkpoint_whose_best_is_damaged_is_passed_over_for_one_before_it(tmp_path: Path) -> None:
    early = [{"step": 5, "eval_loss": 2.0}]
    late = [*early, {"step": 10, "eval_loss": 1.0}, {"step": 15, "eval_loss": 3.0}]
    save(tmp_path, 5, history=early)
    (save(tmp_path, 10, history=late[:2]) / "optimizer.pt").unlink()
    save(tmp_path, 15, history=late)
    step, reasons = resumed(tmp_path)
    assert step == 5 and reasons[15] == "the best checkpoint so far, of step 10, is not there or damaged"


def test_the_two_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save(tmp_path, step)
    assert prune(tmp_path, keep=2, protect=[10], identity=ME) == [20]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-30", "checkpoint-40"]


def test_nothing_is_removed_while_the_newest_does_not_verify(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step)
    unsealed(tmp_path, 40)
    assert prune(tmp_path, keep=2, protect=[], identity=ME) == []


def test_the_manifest_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = unsealed(tmp_path, 10)
    flushed: list[str] = []
    flush = checkpoints.flush
    monkeypatch.setattr(checkpoints, "flush", lambda p: (flushed.append(p.name), flush(p)))
    seal(path, 10, ME)
    before_manifest = flushed[: len(NEEDED) + 1]
    assert {*NEEDED, "checkpoint-10"} == set(before_manifest) and MANIFEST not in flushed
    assert fault(path, ME) is None
