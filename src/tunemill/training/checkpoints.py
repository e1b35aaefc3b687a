"""Know which checkpoint can be believed: each has a manifest of its files' hashes, written last.

    checkpoint-40/adapter_model.safetensors …  optimizer.pt  scheduler.pt  rng_state.pth  trainer_state.json
    checkpoint-40/manifest.json                step, identity of the training, sha256 and size of every file

Transformers goes on from the highest number whatever state it is in, and silently without optimizer or random state;
safetensors does not notice a flipped bit. So nothing is resumed from here that does not verify.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from tunemill.artifacts import FrozenModel
from tunemill.files import flush, replace
from tunemill.store import MANIFEST, SealedFile, hash_files
from tunemill.training.schedule import best_step, validation_losses

NEEDED = frozenset(
    {
        "adapter_model.safetensors",
        "adapter_config.json",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "trainer_state.json",
    }
)
"""Files without which a resumed training would differ from one that was never interrupted."""
ASIDE = "aside-"
_NAME = re.compile(r"checkpoint-(\d+)")


class CheckpointManifest(FrozenModel):
    """What was saved after which step, and of which training."""

    step: int
    identity: str
    files: dict[str, SealedFile]


class Checkpoint(FrozenModel):
    """A folder that verified, and what the Trainer had logged when it was saved."""

    folder: Path
    step: int
    history: list[dict[str, Any]]


def seal(folder: Path, step: int, identity: str) -> None:
    """Flush every file of a saved checkpoint, then write its manifest; without one a checkpoint does not exist."""
    for path in [*(p for p in folder.rglob("*") if p.is_file()), folder]:
        flush(path)
    manifest = CheckpointManifest(step=step, identity=identity, files=hash_files(folder))
    replace(folder / MANIFEST, orjson.dumps(manifest.model_dump(), option=orjson.OPT_INDENT_2))
    flush(folder)
    flush(folder.parent)


def fault(folder: Path, identity: str) -> str | None:
    """Say why a checkpoint cannot be resumed from, None when it can: every byte is as saved, by this very training."""
    try:
        manifest = CheckpointManifest.model_validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        return "it has no manifest: the training was killed while saving it"
    except ValueError:
        return "its manifest cannot be read"
    if manifest.identity != identity:
        return f"it belongs to another training ({manifest.identity[:12]}…)"
    if missing := sorted(NEEDED - manifest.files.keys()):
        return f"{missing[0]} was never saved"
    found = hash_files(folder)
    for name, sealed in manifest.files.items():
        if name not in found:
            return f"{name} is missing"
        if found[name] != sealed:
            return f"{name} is not as it was saved ({found[name].size:,} bytes, saved were {sealed.size:,})"
    return None


def newest_verified(folder: Path, identity: str, on_fault: Callable[[int, str], None]) -> Checkpoint | None:
    """Find the newest checkpoint that verifies together with the best one it knows of.

    Newer ones that do not are set aside and `on_fault` hears step and reason of each: what they would have led to is
    trained again, so that the end is the same as without any damage.
    """
    for step, path in sorted(_steps(folder), reverse=True):
        reason = fault(path, identity)
        if reason is None:
            checkpoint = _read(path, step)
            best = best_step(validation_losses(checkpoint.history))
            if best in (None, step) or verified(folder, int(best or 0), identity):
                return checkpoint
            reason = f"the best checkpoint so far, of step {best}, is not there or damaged"
        on_fault(step, reason)
        set_aside(path)
    return None


def verified(folder: Path, step: int, identity: str) -> Checkpoint | None:
    """Give the checkpoint of one step when it verifies."""
    path = folder / f"checkpoint-{step}"
    return None if fault(path, identity) else _read(path, step)


def prune(folder: Path, keep: int, protect: Iterable[int], identity: str) -> list[int]:
    """Remove all but the `keep` newest checkpoints and the protected steps; return the steps removed.

    Nothing is removed while the newest does not verify: the older ones may be all there is.
    """
    newest_first = sorted(_steps(folder), reverse=True)
    if not newest_first or fault(newest_first[0][1], identity):
        return []
    protected = set(protect)
    gone = [(step, path) for step, path in newest_first[keep:] if step not in protected]
    for _, path in gone:
        (path / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(path)
    return [step for step, _ in gone]


def set_aside(path: Path) -> None:
    """Move a checkpoint out of the way under a name that is never resumed from, over what stood there before."""
    target = path.with_name(ASIDE + path.name)
    shutil.rmtree(target, ignore_errors=True)
    os.rename(path, target)


def _read(path: Path, step: int) -> Checkpoint:
    state = orjson.loads((path / "trainer_state.json").read_bytes())
    return Checkpoint(folder=path, step=step, history=state["log_history"])


def _steps(folder: Path) -> list[tuple[int, Path]]:
    matches = ((path, _NAME.fullmatch(path.name)) for path in folder.glob("checkpoint-*") if path.is_dir())
    return [(int(match[1]), path) for path, match in matches if match]
