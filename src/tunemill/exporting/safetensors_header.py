"""Read and rewrite the header of a safetensors file; the tensors behind it are passed on as bytes and never loaded.

length     8 bytes, little-endian
header     JSON, padded to 8 bytes: `__metadata__` (text → text) and of each tensor type, shape and where its bytes lie
bytes      of all tensors; their places count from here, so a longer header moves none of them
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tunemill.errors import ModelError

METADATA = "__metadata__"
PREFIX = "tunemill."
"""What the keys of our own facts begin with."""
LONGEST = 100_000_000
"""Bytes of a header, above which safetensors itself refuses the file."""


class Header(NamedTuple):
    """What stands before the tensors' bytes."""

    entries: dict[str, Any]
    start: int
    """Where the tensors' bytes begin in the file."""


def header(path: Path) -> Header:
    """Read the header and check that all of every tensor is there, and nothing behind them.

    Raises:
        ModelError: it is no safetensors file, or it ends too early or too late.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(LONGEST, size - 8):
            raise ModelError(f"{path.name} is no whole safetensors file: {size:,} bytes, a header of {length:,}")
        try:
            entries = json.loads(file.read(length))
            end = max((entry["data_offsets"][1] for name, entry in entries.items() if name != METADATA), default=0)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path.name} is no safetensors file: its header cannot be read ({error})") from error
    if size != 8 + length + end:
        raise ModelError(f"{path.name} has {size:,} bytes, its header speaks of {8 + length + end:,}; make it again")
    return Header(entries, 8 + length)


def stamp(source: Path, out: Path, facts: Mapping[str, str]) -> int:
    """Write a copy whose metadata holds `facts`, in place of all keys that begin with `tunemill.`; return its bytes.

    The tensors' bytes are the same, at the same places behind the header, copied by the kernel where it can.
    """
    found = header(source)
    known = {key: value for key, value in found.entries.get(METADATA, {}).items() if not key.startswith(PREFIX)}
    tensors = {name: entry for name, entry in found.entries.items() if name != METADATA}
    entries = {METADATA: dict(sorted((known | dict(facts)).items())), **tensors}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    part = out.with_name(f".{out.name}.part")
    with source.open("rb") as old, part.open("wb") as new:
        new.write(len(text).to_bytes(8, "little") + text)
        new.flush()
        _pass_on(old, found.start, new)
    os.replace(part, out)
    return out.stat().st_size


def metadata(path: Path) -> dict[str, str]:
    """Give the texts that the header carries beside the tensors."""
    return dict(header(path).entries.get(METADATA, {}))


def tensor_digest(path: Path) -> str:
    """Hash the bytes of all tensors; the same for every stamped copy. 64 hex digits."""
    with path.open("rb") as file:
        file.seek(header(path).start)
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pass_on(old: BinaryIO, start: int, new: BinaryIO) -> None:
    """Append what stands in `old` from `start` on; inside the kernel, or in pieces where the disks do not know how."""
    left = os.fstat(old.fileno()).st_size - start
    try:
        while left > 0:
            done = os.copy_file_range(old.fileno(), new.fileno(), left, start)
            if done == 0:
                break
            start, left = start + done, left - done
    except (OSError, AttributeError):
        pass
    if left > 0:
        old.seek(start)
        new.seek(0, os.SEEK_END)
        shutil.copyfileobj(old, new, 1 << 22)
