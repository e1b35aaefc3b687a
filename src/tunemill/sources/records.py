"""Turn the fields of one record into a row: by its shape, or by the columns that `ingest.map` names.

The text of a turn is kept as it was written, white space included. What a row has no place for and training would need
(tool calls, earlier turns in another key) is a reason to reject the record, never dropped in silence.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tunemill.rows import ROLES, Message, Row, make_row
from tunemill.sources.reasons import Fault, Reason, kind, listing
from tunemill.sources.streams import FileCounts

if TYPE_CHECKING:
    from tunemill.sources.settings import ColumnMap, IngestSettings

Fields = dict[str, Any]

KNOWN_KEYS = {
    "conversation": ("conversation", "conversation_id", "session_id"),
    "user": ("user", "user_id", "customer_id"),
    "time": ("time", "timestamp", "created_at"),
}
"""Keys at the top of a record that are taken without a map, the first that is present; strings or integers."""

LOST = frozenset({"history", "tools", "functions"})
"""Keys at the top of a record that change what an answer means and have no place in a row."""
LOST_IN_TURN = frozenset({"tool_calls", "function_call"})


class Converter:
    """Turn records of one file into rows; what was decided once by the settings is worked out once."""

    def __init__(self, settings: "IngestSettings", source: str, counts: FileCounts) -> None:
        self._source, self._counts, self._system = source, counts, settings.system
        self._map = settings.map
        named = settings.map.columns() if settings.map else {}
        self._named = {name: named[name] for name in KNOWN_KEYS if name in named}
        self._guessed = {
            name: [key for key in keys if key not in named.values()]
            for name, keys in KNOWN_KEYS.items()
            if name not in self._named
        }
        self._watched = {*self._named.values(), *(key for keys in self._guessed.values() for key in keys)}

    def row(self, line: int, record: Fields) -> Row:
        """Build the row.

        Raises:
            Fault: the record has no known shape, or its turns cannot be trained on.
        """
        mapped = self._map is not None and self._map.prompt and not self._is_foreign(record)
        turns = _mapped(record, self._map) if self._map and mapped else _shaped(record)
        if self._system and all(turn.role != "system" for turn in turns):
            turns.insert(0, Message("system", self._system))
        known = {} if self._watched.isdisjoint(record) else self._known(record)
        return make_row(_checked(turns), self._source, line, **known)

    def _is_foreign(self, record: Fields) -> bool:
        """Tell a record of a known shape that has no mapped column: one folder may hold a CSV and chats."""
        assert self._map
        mapped = {self._map.prompt, self._map.answer}
        return mapped.isdisjoint(record) and any(all(key in record for key in keys) for keys in SHAPES)

    def _known(self, record: Fields) -> dict[str, str | None]:
        known: dict[str, str | None] = {}
        for name, key in self._named.items():
            value = record.get(key)
            known[name] = _known_value(name, value)
            if known[name] is None and value not in (None, ""):
                raise Fault("wrong type", f"`{key}` is {kind(value)} that is no {name}")
        for name, keys in self._guessed.items():
            for key in keys:
                value = record.get(key)
                if value is None or value == "":
                    continue
                known[name] = _known_value(name, value)
                if known[name] is not None:
                    break
                self._counts.ids_passed_over += 1
        return known


def _known_value(name: str, value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if name == "time":
        return _iso(value) if value >= 0 else None
    return str(value) if isinstance(value, int) else None  # an id beyond 64 bits comes as a float, digits lost


def _iso(stamp: float) -> str | None:
    """Write seconds, milli-, micro- or nanoseconds since 1970 as ISO 8601 in UTC, told apart by their size."""
    while stamp >= 1e11:  # seconds reach that in the year 5138
        stamp /= 1000
    return datetime.fromtimestamp(stamp, UTC).isoformat(timespec="microseconds")


def _mapped(record: Fields, columns: "ColumnMap") -> list[Message]:
    assert columns.prompt and columns.answer  # the settings name both or neither
    prompt = _joined(_text(record, columns.prompt), _text(record, columns.input, optional=True))
    turns = [Message("user", prompt), Message("assistant", _text(record, columns.answer))]
    return _with_system(_text(record, columns.system, optional=True), turns)


def _shaped(record: Fields) -> list[Message]:
    for keys, turns in SHAPES.items():
        if all(key in record for key in keys):
            _check_nothing_lost(record, LOST)
            made = turns(record)
            return _with_system(_text(record, "system", optional=True), made) if "system" in record else made
    known = "; ".join(" + ".join(keys) for keys in SHAPES)
    raise Fault("no known shape", f"found {listing(record)}; known are {known}, or name the columns in ingest.map")


def _chat(record: Fields) -> list[Message]:
    turns = record["messages"]
    if not isinstance(turns, list):
        raise Fault("wrong type", f"`messages` is {kind(turns)}, not a list")
    if not turns:
        raise Fault("empty messages", "`messages` has no turn")
    return [_turn(turn, number) for number, turn in enumerate(turns, 1)]


def _instruction(record: Fields) -> list[Message]:
    prompt = _joined(_text(record, "instruction"), _text(record, "input", optional=True))
    return [Message("user", prompt), Message("assistant", _text(record, "output"))]


def _completion(record: Fields) -> list[Message]:
    return [Message("user", _text(record, "prompt")), Message("assistant", _text(record, "completion"))]


def _turn(turn: Any, number: int) -> Message:
    if not isinstance(turn, dict):
        raise Fault("wrong type", f"turn {number} is {kind(turn)}, not an object")
    role = turn.get("role")
    if role is None:
        raise Fault("missing role", f"turn {number} has {listing(turn)}")
    if not isinstance(role, str):
        raise Fault("wrong type", f"turn {number}: `role` is {kind(role)}, not a string")
    if role not in ROLES:
        raise Fault("unknown role", f"turn {number}: `{role}`; known are {listing(ROLES)}")
    if len(turn) > 2:
        _check_nothing_lost(turn, LOST_IN_TURN)
        for key in ("weight", "loss_weight"):
            if role == "assistant" and turn.get(key, 1) != 1:
                raise Fault("turn weight", f"turn {number}: `{key}` is {turn[key]}; every answer is trained with 1")
    return Message(role, _content(turn, number))


def _content(turn: Fields, number: int) -> str:
    """Take the text of a turn, a string or a list of text parts, which are put together without a space."""
    if "content" not in turn:
        raise Fault("missing content", f"turn {number} has {listing(turn)}")
    content = turn["content"]
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Fault("wrong type", f"turn {number}: `content` is {kind(content)}, not a string")
    texts = []
    for part in content:
        text = part.get("text", part.get("value")) if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise Fault("wrong type", f"turn {number}: `content` holds a part that is not text")
        texts.append(text)
    return "".join(texts)


def _text(record: Fields, key: str | None, optional: bool = False) -> str:
    value = record.get(key) if key else None
    if isinstance(value, str):
        return value
    if value is None and optional:
        return ""
    if key not in record:
        raise Fault("missing key", f"`{key}` is not among {listing(record)}")
    raise Fault("wrong type", f"`{key}` is {kind(value)}, not a string")


def _joined(prompt: str, more: str) -> str:
    return "\n\n".join(part for part in (prompt, more) if part.strip()) if more else prompt


def _with_system(system: str, turns: list[Message]) -> list[Message]:
    if not system.strip():
        return turns
    if any(turn.role == "system" for turn in turns):
        raise Fault("unsupported key", "`system` stands beside a system turn in `messages`; which of them holds?")
    return [Message("system", system), *turns]


def _check_nothing_lost(fields: Fields, keys: frozenset[str]) -> None:
    for key in () if keys.isdisjoint(fields) else sorted(keys):
        if fields.get(key):
            raise Fault("unsupported key", f"`{key}` is not empty, and a row has no place for it")


def _checked(turns: list[Message]) -> list[Message]:
    for number, turn in enumerate(turns, 1):
        if not turn.content or turn.content.isspace():
            empty: Reason = "empty answer" if turn.role == "assistant" else "empty turn"
            raise Fault(empty, f"turn {number}, of role {turn.role}, has no visible character")
        if "\0" in turn.content:
            raise Fault("NUL character", f"in turn {number}, of role {turn.role}")
    if all(turn.role != "assistant" for turn in turns):
        raise Fault("no assistant turn", f"roles are {listing(turn.role for turn in turns)}")
    return turns


SHAPES: dict[tuple[str, ...], Callable[[Fields], list[Message]]] = {
    ("messages",): _chat,
    ("instruction", "output"): _instruction,
    ("prompt", "completion"): _completion,
}
"""Keys by which a shape is known, and what makes turns of it; the first that fits is taken."""
