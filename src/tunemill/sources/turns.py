"""Read the turns of a conversation, however a log writes one: as role and content, or as from and value.

The text of a turn is kept as it was written, white space included, and so are its tool calls (`calls.py`). What a row
has no place for and training would need is a reason to refuse the record, never dropped in silence.
"""

from typing import Any

from tunemill.rows import ROLES, Message
from tunemill.sources.calls import answered, calls_in, calls_of, linked
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
CALLERS = frozenset({"function_call", "tool_call"})
"""Names of a speaker whose text is the JSON of a tool call."""
ROLES_TODAY = {"developer": "system", "function": "tool"}
"""What OpenAI calls the system prompt since its reasoning models, and called the result of a tool before."""


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
        made = spoken(fields["from"], _content(fields, number, "value"), number, "from")
    else:
        made = _with_role(fields, number, role)
    if len(fields) > 2 and made.role == "assistant":
        _check_weight(fields, number)
    return made


def spoken(name: Any, text: str, number: int, key: str) -> Message:
    """Give what a speaker says, which may be a tool call."""
    if isinstance(name, str) and name in CALLERS:
        return Message("assistant", "", calls_in(text, number))
    return Message(_speaker(name, number, key), text)


def _with_role(fields: Fields, number: int, default: str | None) -> Message:
    role, call = _role(fields, number, default), None
    if len(fields) > 2 or "content" not in fields:
        call = calls_of(fields, number)
        if call is not None and fields.get("content") is None:
            return Message(role, "", call)
        if role == "tool":
            call = answered(fields, number)
    return Message(role, _content(fields, number, "content"), call)


def _speaker(name: Any, number: int, key: str) -> str:
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


def check_no_history(fields: Fields) -> None:
    """Refuse a record that was answered with more than its turns show: an earlier history."""
    value = fields.get("history")
    if value and value != "[]":
        raise Fault("unsupported key", "`history` is not empty, and a row has no place for it")


def checked(turns: list[Message]) -> list[Message]:
    """Refuse a conversation that holds an empty turn, a NUL, or no answer; number the calls of the others."""
    for number, one in enumerate(turns, 1):
        if (not one.content or one.content.isspace()) and (one.call is None or one.role != "assistant"):
            empty: Reason = "empty answer" if one.role == "assistant" else "empty turn"
            raise Fault(empty, f"turn {number}, of role {one.role}, has no visible character")
        if "\0" in one.content:
            raise Fault("NUL character", f"in turn {number}, of role {one.role}")
    if "assistant" not in [one.role for one in turns]:
        raise Fault("no assistant turn", f"roles are {listing(one.role for one in turns)}")
    return linked(turns)


def _role(fields: Fields, number: int, default: str | None) -> str:
    role = fields.get("role", default)
    if role is None:
        raise Fault("missing role", f"turn {number} has {listing(fields)}")
    if not isinstance(role, str):
        raise Fault("wrong type", f"turn {number}: `role` is {kind(role)}, not a string")
    role = ROLES_TODAY.get(role, role)
    if role not in ROLES:
        raise Fault("unknown role", f"turn {number}: `{role}`; known are {listing(ROLES)}")
    return role


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
