"""Read and rewrite the head of a GGUF file; its tensors are passed on as bytes and never loaded.

magic, version, number of tensors, number of pairs
pairs      key, type, value
tensors    name, shape, type, where its bytes begin
bytes      of all tensors, from a multiple of the alignment on
"""

import hashlib
import mmap
import os
import shutil
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tunemill.errors import ModelError

MAGIC = b"GGUF"
PREFIX = "tunemill."
"""What the keys of our own facts begin with."""
NAME, TEMPLATE, TOKENS = "general.name", "tokenizer.chat_template", "tokenizer.ggml.tokens"
ENDS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")
"""Keys of the tokens that end an answer: of the sequence, of the turn, of a message before a tool is called."""

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class Span(NamedTuple):
    """An array, where it lies in the file, not read."""

    kind: int
    length: int
    start: int


class Pair(NamedTuple):
    """One key and value, with the bytes that hold both."""

    value: int | float | bool | str | Span
    raw: bytes


class Tensor(NamedTuple):
    """What the head says of one tensor; `offset` counts from the first tensor's byte."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int

    @property
    def elements(self) -> int:
        """Number of weights."""
        count = 1
        for length in self.shape:
            count *= length
        return count


class Head(NamedTuple):
    """Everything before the tensors' bytes."""

    version: int
    pairs: dict[str, Pair]
    tensors: list[Tensor]
    raw_tensors: bytes
    alignment: int
    start: int
    """Where the tensors' bytes begin in the file."""


class _Reader:
    """Walk through a mapped file; ends in a `struct.error` where the file ends too early."""

    def __init__(self, data: "mmap.mmap | bytes", at: int = 0) -> None:
        self.data = data
        self.at = at

    def number(self, form: str) -> Any:
        value = struct.unpack_from(f"<{form}", self.data, self.at)[0]
        self.at += struct.calcsize(f"<{form}")
        return value

    def string(self) -> bytes:
        length = self.number("Q")
        text = self.data[self.at : self.at + length]
        if len(text) != length:
            raise struct.error("the file ends within a string")
        self.at += length
        return text

    def value(self, kind: int) -> int | float | bool | str | Span:
        if kind == _STRING:
            return self.string().decode(errors="replace")
        if kind == _ARRAY:
            return self.array()
        value: int | float | bool = self.number(_SCALARS[kind])
        return value

    def array(self) -> Span:
        kind, count = self.number("I"), self.number("Q")
        span = Span(kind, count, self.at)
        if kind in _SCALARS:
            self.at += count * struct.calcsize(f"<{_SCALARS[kind]}")
        else:
            for _ in range(count):
                self.value(kind)
        return span


def head(path: Path) -> Head:
    """Read the head and check that all of every tensor is there.

    Raises:
        ModelError: it is no GGUF file of versions 2 or 3, holds no tensors, or ends too early.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(4) != MAGIC:
            raise ModelError(f"{path.name} is no GGUF file: it does not begin with {MAGIC.decode()!r}")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                found = _head(_Reader(data, 4))
                needed = found.start + max(tensor.offset + _size(tensor) for tensor in found.tensors)
            except (struct.error, KeyError, ValueError, OverflowError) as error:
                raise _damaged(path, size, f"its head cannot be read ({error})") from error
    if size < needed:
        raise _damaged(path, size, f"its tensors need {needed:,}")
    return found


def stamp(source: Path, out: Path, facts: Mapping[str, str], name: str | None = None) -> None:
    """Write a copy that carries `facts` under keys that begin with `tunemill.`, in place of all it carried before.

    The tensors' bytes are the same, copied piece by piece, so that memory does not grow with the file.

    Args:
        facts: short names (`run`, `dataset`, ...) and their values.
        name: what llama.cpp shows (general.name); left as it is where None.
    """
    found = head(source)
    new = {f"{PREFIX}{key}": value for key, value in sorted(facts.items())}
    new |= {} if name is None else {NAME: name}
    kept = {key: pair.raw for key, pair in found.pairs.items() if not key.startswith(PREFIX) and key not in new}
    pairs = [*kept.values(), *(_text(key) + struct.pack("<I", _STRING) + _text(value) for key, value in new.items())]
    counts = struct.pack("<IQQ", found.version, len(found.tensors), len(pairs))
    begin = b"".join([MAGIC, counts, *pairs, found.raw_tensors])
    part = out.with_name(f".{out.name}.part")
    with source.open("rb") as old, part.open("wb") as new_file:
        new_file.write(begin + b"\0" * (-len(begin) % found.alignment))
        old.seek(found.start)
        shutil.copyfileobj(old, new_file, 1 << 22)
    os.replace(part, out)


def facts(path: Path) -> dict[str, str]:
    """Give what `stamp` wrote, by short name."""
    pairs = head(path).pairs.items()
    return {key.removeprefix(PREFIX): str(pair.value) for key, pair in pairs if key.startswith(PREFIX)}


def template(path: Path) -> str:
    """Give the chat template, as Jinja.

    Raises:
        ModelError: there is none.
    """
    pair = head(path).pairs.get(TEMPLATE)
    if pair is None:
        raise ModelError(f"{path.name} has no chat template, so it cannot be asked as a chat; convert it again")
    return str(pair.value)


def end_tokens(path: Path) -> dict[int, str]:
    """Give the tokens that the file itself names as the end of an answer: id → text, the main one first.

    llama.cpp stops at more than these: it also knows the usual ones, such as `<|im_end|>`, by their text.
    """
    pairs = head(path).pairs
    wanted = dict.fromkeys(int(pairs[key].value) for key in ENDS if key in pairs)  # type: ignore[arg-type]
    span = pairs[TOKENS].value if TOKENS in pairs else None
    if not isinstance(span, Span):
        raise ModelError(f"{path.name} has no tokens, so it cannot be asked; convert it again")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(data, span.start)
        texts = {number: text for number in range(span.length) if (text := reader.string()) and number in wanted}
    return {number: texts[number].decode(errors="replace") for number in wanted if number in texts}


def types(path: Path) -> dict[str, int]:
    """Count the tensors by the number format they are stored in, the most frequent first."""
    from gguf import GGMLQuantizationType

    counts = Counter(GGMLQuantizationType(tensor.kind).name for tensor in head(path).tensors)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def bits_per_weight(path: Path) -> float:
    """Give the bits that a weight takes, averaged over the whole model."""
    tensors = head(path).tensors
    return 8 * sum(map(_size, tensors)) / sum(tensor.elements for tensor in tensors)


def tensor_digest(path: Path) -> str:
    """Hash the bytes of all tensors; the same for every stamped copy. 64 hex digits."""
    digest = hashlib.sha256()
    for piece in _pieces(path, head(path).start):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(path: Path, start: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(1 << 22):
            yield piece


def _head(reader: _Reader) -> Head:
    version, tensor_count, pair_count = reader.number("I"), reader.number("Q"), reader.number("Q")
    if version not in (2, 3):
        raise ValueError(f"version {version}; 2 and 3 are known here")
    pairs: dict[str, Pair] = {}
    for _ in range(pair_count):
        begin = reader.at
        key = reader.string().decode()
        value = reader.value(reader.number("I"))
        pairs[key] = Pair(value, reader.data[begin : reader.at])
    begin = reader.at
    tensors = [_tensor(reader) for _ in range(tensor_count)]
    alignment = int(pairs["general.alignment"].value) if "general.alignment" in pairs else 32  # type: ignore[arg-type]
    start = reader.at + -reader.at % alignment
    return Head(version, pairs, tensors, reader.data[begin : reader.at], alignment, start)


def _tensor(reader: _Reader) -> Tensor:
    name = reader.string().decode()
    shape = tuple(reader.number("Q") for _ in range(reader.number("I")))
    return Tensor(name, shape, reader.number("I"), reader.number("Q"))


def _size(tensor: Tensor) -> int:
    """Give a tensor's bytes."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    weights, bytes_ = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
    return tensor.elements // weights * bytes_


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _damaged(path: Path, size: int, reason: str) -> ModelError:
    return ModelError(f"{path.name} is not whole: it has {size:,} bytes, and {reason}; make it again")
