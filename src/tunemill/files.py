"""Hash files, and write them such that a crash leaves the old bytes or the new."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import orjson

SETTLED = 2
"""Seconds after which a file that was written is taken to be whole."""
LARGE = 1 << 26
"""Bytes for which threads are started, however few the files are."""
T = TypeVar("T")
FEW = 32
"""Files for which starting threads would take longer than it saves."""


class FileDigests:
    """Know a file's sha256 again by path, size, time and inode, so that an unchanged file is not read."""

    def __init__(self, memory: Path) -> None:
        self.memory = memory
        self.known: dict[str, list[Any]] = _json(memory)

    def __call__(self, path: Path) -> str:
        """Give the sha256 of a file, 64 hex digits, read only where its stat has changed."""
        stat = path.stat()
        seen = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = self.known.get(str(path))
        if entry and entry[:3] == seen:
            return str(entry[3])
        sha256 = hash_file(path)
        self.known[str(path)] = [*seen, sha256]
        return sha256

    def save(self) -> None:
        """Write the memory back, old or new and never half."""
        self.memory.parent.mkdir(parents=True, exist_ok=True)
        replace(self.memory, orjson.dumps(self.known))


def hash_file(path: Path) -> str:
    """Give the sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_flushed(path: Path, data: bytes) -> None:
    """Write bytes and wait until the disk has them."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, data: bytes) -> None:
    """Give a file new bytes such that a reader sees the old or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    write_flushed(temporary, data)
    os.replace(temporary, path)


def link(paths: Iterable[Path], folder: Path) -> None:
    """Give files a second name in `folder`, so that they take no second place; copied where the disk is another."""
    for path in paths:
        try:
            os.link(path.resolve(), folder / path.name)
        except OSError:
            shutil.copyfile(path, folder / path.name)


def flush(path: Path) -> None:
    """Wait until the disk has a file's bytes, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_tree(folder: Path) -> None:
    """Wait until the disk has a folder and everything under it."""
    spread(flush, [*folder.rglob("*"), folder])


def hash_all(paths: Sequence[Path]) -> list[str]:
    """Give the sha256 of each file; hashing leaves the interpreter free, so every core helps."""
    return spread(hash_file, paths)


class FileHashes:
    """Hash each file once a process, by whatever name it is read: a second name of the same bytes is not read again.

    A file that was written in the last seconds is not remembered: a change at once may leave its times as they are.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, ...], str] = {}

    def __call__(self, paths: Sequence[Path]) -> list[str]:
        """Give the sha256 of each file."""
        seen = [_identity(path) for path in paths]
        new = {each: path for each, path in zip(seen, paths, strict=True) if each not in self._known}
        found = dict(zip(new, hash_all(list(new.values())), strict=True))
        settled = (time.time() - SETTLED) * 1e9
        hashes = [self._known.get(each) or found[each] for each in seen]
        self._known.update({each: sha256 for each, sha256 in found.items() if each[-1] < settled})
        return hashes


def _identity(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def spread(work: Callable[[Path], T], paths: Sequence[Path]) -> list[T]:
    """Do what waits for the disk, or leaves the interpreter free, for many files at once; a few are not worth it."""
    if len(paths) <= FEW and sum(path.stat().st_size for path in paths) < LARGE:
        return [work(path) for path in paths]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(work, paths))


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(orjson.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError):
        return {}
