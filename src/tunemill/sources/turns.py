"""Read the turns of a conversation, however a log writes one: as role and content, or as from and value.

The text of a turn is kept as it was written, white space included. What a row has no place for and training would need
(tool calls) is a reason to refuse the record, never dropped in silence.
"""

from typing import Any

from tunemill.rows import ROLES, Message
from tunemill.sources.reasons import Fault, Reason, kind, listing

Fields = dict[str, Any]

SPEAKERS = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
    "observation": "tool",
    "tool": "tool",
}
"""Role of each name under which ShareGPT and conversation trees know a speaker."""
CALLS = frozenset({"tool_calls", "function_call"})
"""Keys of a turn, and names of a speaker, that hold a tool call."""
LOST = frozenset({"history", "tools", "functions"})
"""Keys at the top of a record that change what an answer means and have no place in a row."""
NO_CALLS = "rows do not hold tool calls yet, nor does training render them; leave these records out of ingest.files"


def chat(turns: Any, key: str = "messages") -> list[Message]:
    """Read a list of turns."""
    if not isinstance(turns, list):
        raise Fault("wrong type", f"`{key}` is {kind(turns)}, not a list")
    if not turns:
        raise Fault("empty messages", f"`{key}` has no turn")
    return [turn(one, number) for number, one in enumerate(turns, 1)]


def turn(fields: Any, number: int, role: str | None = None) -> Message:
    """Read one turn; `role` is that of a turn that names none."""
    if not isinstance(fields, dict):
        raise Fault("wrong type", f"turn {number} is {kind(fields)}, not an object")
    if "from" in fields and "role" not in fields:
        found = speaker(fields["from"], number, "from")
        text = _content(fields, number, "value")
    else:
        found = _role(fields, number, role)
        if len(fields) > 2 or "content" not in fields:
            _check_no_call(fields, number)
        text = _content(fields, number, "content")
    if len(fields) > 2 and found == "assistant":
        _check_weight(fields, number)
    return Message(found, text)


def speaker(name: Any, number: int, key: str) -> str:
    """Give the role of a speaker."""
    if name in ("function_call", "tool_call"):
        raise Fault("unsupported key", f"turn {number} is a tool call; {NO_CALLS}")
    if not isinstance(name, str):
        raise Fault("wrong type", f"turn {number}: `{key}` is {kind(name)}, not a string")
    if name not in SPEAKERS:
        raise Fault("unknown role", f"turn {number}: `{name}`; known are {listing(SPEAKERS)}")
    return SPEAKERS[name]


def text_of(record: Fields, key: str | None, optional: bool = False) -> str:
    """Take a string; an optional one may be absent or null, and is then empty."""
    value = record.get(key) if key else None
    if isinstance(value, str):
        return value
    if value is None and optional:
        return ""
    if key not in record:
        raise Fault("missing key", f"`{key}` is not among {listing(record)}")
    raise Fault("wrong type", f"`{key}` is {kind(value)}, not a string")


def joined(prompt: str, more: str) -> str:
    """Put an input after its instruction, with an empty line between."""
    return "\n\n".join(part for part in (prompt, more) if part.strip()) if more else prompt


def with_system(system: str, turns: list[Message]) -> list[Message]:
    """Put the system prompt that stands beside a conversation before it."""
    if not system.strip():
        return turns
    if any(one.role == "system" for one in turns):
        raise Fault("unsupported key", "`system` stands beside a system turn in `messages`; which of them holds?")
    return [Message("system", system), *turns]


def check_nothing_lost(fields: Fields) -> None:
    """Refuse a record that was answered with more than its turns show: tools, or an earlier history."""
    for key in () if LOST.isdisjoint(fields) else sorted(LOST):
        value = fields.get(key)
        if value and value != "[]":
            why = "a row has no place for it" if key == "history" else f"a row has no place for it: {NO_CALLS}"
            raise Fault("unsupported key", f"`{key}` is not empty, and {why}")


def checked(turns: list[Message]) -> list[Message]:
    """Refuse a conversation that holds an empty turn, a NUL, or no answer."""
    for number, one in enumerate(turns, 1):
        if not one.content or one.content.isspace():
            empty: Reason = "empty answer" if one.role == "assistant" else "empty turn"
            raise Fault(empty, f"turn {number}, of role {one.role}, has no visible character")
        if "\0" in one.content:
            raise Fault("NUL character", f"in turn {number}, of role {one.role}")
    if "assistant" not in [one.role for one in turns]:
        raise Fault("no assistant turn", f"roles are {listing(one.role for one in turns)}")
    return turns


def _role(fields: Fields, number: int, default: str | None) -> str:
    role = fields.get("role", default)
    if role is None:
        raise Fault("missing role", f"turn {number} has {listing(fields)}")
    if not isinstance(role, str):
        raise Fault("wrong type", f"turn {number}: `role` is {kind(role)}, not a string")
    if role == "developer":  # what OpenAI calls the system prompt since its reasoning models
        return "system"
    if role not in ROLES:
        raise Fault("unknown role", f"turn {number}: `{role}`; known are {listing(ROLES)}")
    return role


def _check_no_call(fields: Fields, number: int) -> None:
    for key in sorted(CALLS):
        if fields.get(key):
            raise Fault("unsupported key", f"turn {number}: `{key}` is not empty; {NO_CALLS}")


def _check_weight(fields: Fields, number: int) -> None:
    for key in ("weight", "loss_weight"):
        if fields.get(key, 1) != 1:
            raise Fault("turn weight", f"turn {number}: `{key}` is {fields[key]}; every answer is trained with 1")


def _content(fields: Fields, number: int, key: str) -> str:
    """Take the text of a turn, a string or a list of text parts, which are put together without a space."""
    if key not in fields:
        raise Fault("missing content", f"turn {number} has {listing(fields)}")
    content = fields[key]
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        if content is None and isinstance(refusal := fields.get("refusal"), str):
            raise Fault("empty answer", f"turn {number}: the model refused: {refusal}")
        raise Fault("wrong type", f"turn {number}: `{key}` is {kind(content)}, not a string")
    texts = []
    for part in content:
        text = part.get("text", part.get("value")) if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise Fault("wrong type", f"turn {number}: `{key}` holds a part that is not text")
        texts.append(text)
    return "".join(texts)
