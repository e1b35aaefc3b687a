"""Say what a row is: one conversation that can be trained on, and where it came from.

A row knows the digest of its source file and its line there, never the file's name: names change, bytes do not.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
import orjson

from tunemill.struct_table import structs, tables

if TYPE_CHECKING:
    import pyarrow as pa

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)
GROUP = 16_384
"""Rows of a parquet file that are packed at once; memory that was not used before costs more than packing does."""
BATCH = 8_192
"""Rows that are read back at once, for the same reason."""


class Message(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One turn of a conversation."""

    role: str
    content: str
    call: str | None = None
    """JSON of the calls of an assistant turn, [{id, name, arguments}], or of the call that a tool turn answers."""

    @property
    def said(self) -> str:
        """All that the turn says: its text and, each on a line of its own, its calls without their ids."""
        if self.call is None or self.role != "assistant":
            return self.content
        calls = [{"name": call["name"], "arguments": call["arguments"]} for call in orjson.loads(self.call)]
        return "\n".join([*([self.content] if self.content else []), *(orjson.dumps(call).decode() for call in calls)])

    @property
    def fields(self) -> dict[str, Any]:
        """The turn as chat templates take it, and as the OpenAI API writes it but for arguments as an object."""
        turn: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.call is None:
            return turn
        called = orjson.loads(self.call)
        if self.role != "assistant":
            return {**turn, "name": called["name"], "tool_call_id": called["id"]}
        functions = [(call["id"], {"name": call["name"], "arguments": call["arguments"]}) for call in called]
        return {**turn, "tool_calls": [{"id": id_, "type": "function", "function": f} for id_, f in functions]}


class Row(msgspec.Struct, frozen=True, gc=False):
    """One conversation with its origin; `row_id` depends on what was said and how it was judged, not on the origin."""

    row_id: str
    source: str
    """sha256 of the file that it was read from, 64 hex digits."""
    line: int
    """Line of that file where the record begins, counted from 1."""
    messages: tuple[Message, ...]
    conversation: str | None = None
    user: str | None = None
    time: str | None = None
    """ISO 8601, as the log gave it; orders rows from old to new."""
    rejected: tuple[Message, ...] | None = None
    """Of a preference pair, the turns that a person liked less than the last answer; they are never trained."""
    liked: bool | None = None
    """What a person said of the answer: thumbs up, thumbs down, or nothing."""
    tools: str | None = None
    """JSON of the functions that the model could call, [{type, function: {name, …}}]; None where it had none."""

    @property
    def place(self) -> tuple[str, str, int]:
        """Order rows from old to new, in a way that no file name can change."""
        return (self.time or "", self.source, self.line)

    @property
    def calls(self) -> bool:
        """Whether the model was offered tools or calls any."""
        return self.tools is not None or any(message.call is not None for message in self.messages)

    @property
    def answer(self) -> str:
        """What the last assistant turn says, calls included; "" where the conversation has none."""
        reply = self.reply
        return "" if reply is None else reply.said

    @property
    def reply(self) -> Message | None:
        """The last assistant turn."""
        for message in reversed(self.messages):
            if message.role == "assistant":
                return message
        return None

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The turns before the last assistant turn: what a model is shown when it is tested."""
        for last in range(len(self.messages) - 1, -1, -1):
            if self.messages[last].role == "assistant":
                return self.messages[:last]
        return self.messages

    @property
    def record(self) -> dict[str, Any]:
        """What was said, as a record of `messages` that ingest reads to the same row."""
        tools = {} if self.tools is None else {"tools": orjson.loads(self.tools)}
        return {"messages": [message.fields for message in self.messages], **tools}


class Rejected(msgspec.Struct, frozen=True):
    """One record that was left out, with the reason and where it stands."""

    source: str
    line: int
    reason: str
    detail: str = ""
    text: str = ""
    """The record as it was read, cut to 2,000 characters."""


DISLIKED = "thumbs down, kept apart"


class PassedOver(msgspec.Struct, frozen=True):
    """One record that a filter of the configuration leaves out; nothing is wrong with it."""

    source: str
    line: int
    reason: str
    detail: str = ""


class Duplicate(msgspec.Struct, frozen=True):
    """One dropped row and the older one that stays in its place."""

    row_id: str
    source: str
    line: int
    kept_row_id: str
    kept_source: str
    kept_line: int
    similarity: float
    """Exact Jaccard similarity of the two; a cluster is linked in a chain, so it may lie below the threshold."""
    kind: Literal["exact", "near"]


def content_id(
    messages: Iterable[Message],
    rejected: Iterable[Message] | None = None,
    liked: bool | None = None,
    tools: str | None = None,
) -> str:
    """Hash what a row says, so that the same conversation has the same id in every file: 32 hex digits.

    A judgement, and tools offered, make another row of the same conversation; without them the id depends on the
    messages alone.
    """
    said: Any = _said(messages)
    if rejected is not None or liked is not None:
        said = [said, None if rejected is None else _said(rejected), liked]
    if tools is not None:
        said = {"said": said, "tools": tools}
    return hashlib.sha256(orjson.dumps(said)).hexdigest()[:32]


def _said(messages: Iterable[Message]) -> list[list[str]]:
    return [[m.role, m.content] if m.call is None else [m.role, m.content, m.call] for m in messages]


def make_row(
    messages: Iterable[Message],
    source: str,
    line: int,
    *,
    rejected: tuple[Message, ...] | None = None,
    liked: bool | None = None,
    tools: str | None = None,
    **known: str | None,
) -> Row:
    """Build a row and its content id; `known` may hold conversation, user and time."""
    turns = tuple(messages)
    row_id = content_id(turns, rejected, liked, tools)
    return Row(row_id, source, line, turns, rejected=rejected, liked=liked, tools=tools, **known)


def with_messages(row: Row, messages: tuple[Message, ...]) -> Row:
    """Give a row other messages and the id that follows from them; its origin, judgement and tools stay."""
    row_id = content_id(messages, row.rejected, row.liked, row.tools)
    return msgspec.structs.replace(row, row_id=row_id, messages=messages)


def schema() -> "pa.Schema":
    """Give the parquet schema of a file of rows."""
    import pyarrow as pa

    message = pa.struct([("role", pa.string()), ("content", pa.string()), ("call", pa.string())])
    return pa.schema(
        [
            ("row_id", pa.string()),
            ("source", pa.string()),
            ("line", pa.int64()),
            ("messages", pa.list_(message)),
            ("conversation", pa.string()),
            ("user", pa.string()),
            ("time", pa.string()),
            ("rejected", pa.list_(message)),
            ("liked", pa.bool_()),
            ("tools", pa.string()),
        ]
    )


def write(path: Path, rows: Iterable[Row]) -> int:
    """Write rows to one parquet file in the order given; return how many."""
    import pyarrow.parquet as pq

    held = list(rows)
    with pq.ParquetWriter(path, schema(), compression="zstd") as file:
        for table in tables(held, schema(), GROUP):
            file.write_table(table)
    return len(held)


def read(path: Path) -> list[Row]:
    """Read rows back in the order they were written."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return [row for batch in file.iter_batches(BATCH) for row in structs(batch, Row, Message)]


def write_passed(path: Path, records: Sequence[PassedOver]) -> int:
    """Write records that a filter left out as parquet, since most of a log may be; return how many."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ("source", "line", "reason", "detail")
    columns = {name: [getattr(record, name) for record in records] for name in names}
    kinds = pa.schema([(name, pa.int64() if name == "line" else pa.string()) for name in names])
    pq.write_table(pa.table(columns, schema=kinds), path, compression="zstd")
    return len(records)


def write_lines(path: Path, records: Iterable[Any]) -> int:
    """Write one JSON object a line (structs or dicts); return how many."""
    count = 0
    with path.open("wb") as file:
        for record in records:
            file.write(orjson.dumps(msgspec.to_builtins(record)) + b"\n")
            count += 1
    return count


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a file that `write_lines` wrote."""
    with path.open("rb") as file:
        for line in file:
            yield orjson.loads(line)
