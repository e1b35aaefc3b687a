"""Read from a table of rows what they are compared by, column by column."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from tunemill.dedup.contradictions import answered, asked_of
from tunemill.dedup.segments import Array, recounted
from tunemill.dedup.text import conversation_text, normalise
from tunemill.rows import Row

if TYPE_CHECKING:
    import pyarrow as pa

STRETCH = 16_384
"""Rows that are looked at at once."""
_WORDS = bytes(ord(normalise(chr(c)) if chr(c).isalnum() else " ") for c in range(128)) + bytes(128)
_SPACES = bytes(32 if chr(c).isspace() else c for c in range(128)) + bytes(128)


class Columns(NamedTuple):
    """Rows in the order in which they came, and their texts end to end."""

    arrays: dict[str, Array]
    """time, row_id · source, table: numbers in the lists below · line · at: place in its table · prompt, answer: hashes
    of what normalisation leaves of them, prompt 0 where no user says anything."""
    sources: list[str]
    tables: list[str]
    texts: Array
    """Normalised conversations in UTF-8."""
    offsets: Array


def columns_of(tables: Mapping[str, "pa.Table"]) -> Columns:
    """Read the rows of tables, which are known by their names."""
    found = [
        {**_read(batch), "table": np.full(batch.num_rows, number, np.int32)}
        for number, name in enumerate(sorted(tables))
        for batch in tables[name].to_batches(max_chunksize=STRETCH)
    ]
    source, sources = recounted([(part.pop("source"), part.pop("sources")) for part in found])
    kinds: dict[str, Any] = {
        **{"time": "S1", "row_id": "S1", "table": np.int32, "line": np.int64},
        **{"prompt": np.uint64, "answer": np.uint64, "texts": np.uint8, "lengths": np.int64},
    }
    whole: dict[str, Array] = {"source": source} | {
        name: np.concatenate([np.empty(0, kind), *(part.pop(name) for part in found)]) for name, kind in kinds.items()
    }
    whole["at"] = np.concatenate(
        [np.empty(0, np.int64), *(np.arange(tables[name].num_rows) for name in sorted(tables))]
    )
    offsets = np.zeros(whole["lengths"].size + 1, np.int64)
    np.cumsum(whole.pop("lengths"), out=offsets[1:])
    return Columns(whole, sources, sorted(tables), whole.pop("texts"), offsets)


def _read(batch: "pa.RecordBatch") -> dict[str, Any]:
    source = batch.column("source").dictionary_encode()
    texts, stops, prompt, answer = _said(batch.column("messages"))
    found = {"texts": texts, "lengths": np.diff(stops, prepend=0), "prompt": prompt, "answer": answer}
    if (special := _special(batch)).size:
        found = _by_rows(found, special, msgspec.convert(batch.take(_ints(special)).to_pylist(), list[Row]))
    return {
        **found,
        "time": _fixed(batch.column("time")),
        "row_id": _fixed(batch.column("row_id")),
        "source": source.indices.to_numpy(),
        "sources": source.dictionary.to_pylist(),
        "line": batch.column("line").to_numpy(),
    }


def _said(messages: "pa.ListArray") -> tuple[Array, Array, Array, Array]:
    """Give texts end to end, where each ends, and the hashes of prompts and answers."""
    from tunemill.dedup import turn_kernels as kernels

    turns = messages.flatten()
    content = turns.field("content")
    data, offsets = _strings(content)
    plain, ends, kinds = kernels.plain_turns(data, offsets, _table(_WORDS), _table(_SPACES))
    starts = np.concatenate([np.zeros(1, np.int64), ends])[:-1]
    if (foreign := np.flatnonzero(kinds == kernels.FOREIGN)).size:
        said = [normalise(text) for text in content.take(_ints(foreign)).to_pylist()]
        parts = [text.encode() for text in said]
        ends[foreign] = plain.size + np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)))
        starts[foreign] = np.concatenate([[plain.size], ends[foreign[:-1]]])
        kinds[foreign] = [kernels.SPOKEN if text[:1].isalnum() else kernels.SILENT for text in said]
        plain = np.concatenate([plain, np.frombuffer(b"".join(parts), np.uint8)])
    role = turns.field("role").dictionary_encode()
    roles = role.dictionary.to_pylist()
    named = [roles.index(name) if name in roles else -1 for name in ("system", "user", "assistant")]
    first = messages.offsets.to_numpy()
    of = role.indices.to_numpy(), *_strings(role.dictionary), (first - first[0]).astype(np.int64)
    found: tuple[Array, Array, Array, Array] = kernels.conversations(plain, starts, ends, kinds, *of, *named)
    return found


def _special(batch: "pa.RecordBatch") -> Array:
    """Give the rows with tools, or a turn that says more than its role and its content: they are read as rows."""
    messages = batch.column("messages")
    turns, first = messages.flatten(), messages.offsets.to_numpy()
    more = np.zeros(len(turns), np.bool_)
    for field in turns.type:
        if field.name not in ("role", "content") and turns.field(field.name).null_count < len(turns):
            more |= turns.field(field.name).is_valid().to_numpy(zero_copy_only=False)
    special = np.zeros(len(messages), np.bool_)
    special[np.searchsorted(first - first[0], np.flatnonzero(more), side="right") - 1] = True
    if (tools := batch.column("tools")).null_count < len(tools):
        special |= tools.is_valid().to_numpy(zero_copy_only=False)
    return np.flatnonzero(special)


def _by_rows(found: dict[str, Array], places: Array, rows: Sequence[Row]) -> dict[str, Array]:
    """Put in what rows say by their own account."""
    texts = np.split(found["texts"], np.cumsum(found["lengths"])[:-1])
    for place, row in zip(places.tolist(), rows, strict=True):
        texts[place] = np.frombuffer(normalise(conversation_text(row)).encode(), np.uint8)
        asked = asked_of(row)
        found["prompt"][place] = max(text_hash(asked), 1) if asked else 0
        found["answer"][place] = text_hash(answered(row))
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    return {**found, "texts": np.concatenate(texts), "lengths": lengths}


def text_hash(text: str) -> int:
    """Hash a text to 64 bits."""
    from tunemill.dedup import text_kernels as kernels

    data = np.frombuffer(text.encode(), np.uint8)
    return int(kernels.hash_bytes(data, 0, data.size))


def _strings(array: "pa.StringArray") -> tuple[Array, Array]:
    """Give the bytes of strings as they lie, and where each begins and the last ends; what is null is empty."""
    _, ends, data = array.buffers()
    offsets = np.frombuffer(ends, np.int32)[array.offset : array.offset + len(array) + 1] if ends else np.zeros(1)
    return np.frombuffer(data or b"", np.uint8), offsets.astype(np.int64)


def _fixed(array: "pa.StringArray") -> Array:
    from tunemill.dedup import turn_kernels as kernels

    data, offsets = _strings(array)
    width = max(int(np.diff(offsets).max(initial=0)), 1)
    return np.asarray(kernels.fixed(data, offsets, width).view(f"S{width}")[:, 0])


def _table(letters: bytes) -> Array:
    return np.frombuffer(letters, np.uint8)


def _ints(places: Array) -> "pa.Array":
    import pyarrow as pa

    return pa.array(places, pa.int64())
