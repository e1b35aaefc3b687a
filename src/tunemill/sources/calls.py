"""Read tool calls, the tools that could be called, and which call a tool's result answers, however a log writes them.

The ids of calls only say which result belongs to which call and are drawn anew by each request, so they are numbered:
the same conversation has the same row id in every log. Their 9 letters are what the strictest templates ask for.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import orjson

from tunemill.rows import Message
from tunemill.sources.reasons import Fault, kind, listing
from tunemill.sources.strict_json import parse_value

Fields = dict[str, Any]


class _Call(NamedTuple):
    """A call that results can answer: the id in the log, and what stands in the row."""

    given: str | None
    id: str
    name: str


def calls_of(fields: Fields, number: int) -> str | None:
    """Read `tool_calls`, or the older `function_call`, of a turn; None where it makes none."""
    calls, older = fields.get("tool_calls"), fields.get("function_call")
    if calls and older:
        raise Fault("broken call", f"turn {number} has `tool_calls` and `function_call`; which of them holds?")
    if not (calls or older):
        return None
    if fields.get("role", "assistant") != "assistant":
        raise Fault("broken call", f"turn {number}, of role {fields['role']}, calls a tool; only an assistant can")
    if calls and not isinstance(calls, list):
        raise Fault("broken call", f"turn {number}: `tool_calls` is {kind(calls)}, not a list")
    return _written([_call(call, f"turn {number}, call {n}") for n, call in enumerate(calls or [older], 1)])


def calls_in(text: str, number: int) -> str:
    """Read the JSON of one call or a list of calls, as ShareGPT writes them in place of a text."""
    value = _value(text, f"turn {number}: `value`")
    calls = value if isinstance(value, list) else [value]
    if not calls:
        raise Fault("broken call", f"turn {number}: `value` is an empty list of calls")
    return _written([_call(call, f"turn {number}, call {n}") for n, call in enumerate(calls, 1)])


def answered(fields: Fields, number: int) -> str | None:
    """Read which call the result of a tool answers, by id or name, as far as the turn says it."""
    said = {}
    for key, name in (("tool_call_id", "id"), ("name", "name")):
        if (value := fields.get(key)) is not None and value != "":
            if not isinstance(value, str):
                raise Fault("wrong type", f"turn {number}: `{key}` is {kind(value)}, not a string")
            said[name] = value
    return orjson.dumps(said).decode() if said else None


def tools_of(record: Fields) -> str | None:
    """Read the functions that a model could call: `tools` or the older `functions`, a list or the JSON of one."""
    found = [(key, value) for key in ("tools", "functions") if (value := record.get(key)) and value != "[]"]
    if not found:
        return None
    if len(found) > 1:
        raise Fault("broken tools", "`tools` and `functions` are both given; which of them holds?")
    ((key, value),) = found
    if isinstance(value, str):
        value = _value(value, f"`{key}`", "broken tools")
    if not isinstance(value, list):
        raise Fault("broken tools", f"`{key}` is {kind(value)}, not a list")
    return _written([_tool(tool, f"`{key}`, number {n}") for n, tool in enumerate(value, 1)]) if value else None


def linked(turns: list[Message]) -> list[Message]:
    """Number the calls of a conversation, and name in each result the call that it answers.

    A result that names none answers the first call before it that has no result yet. Results of a conversation
    without calls stay texts.
    """
    if all(turn.call is None for turn in turns):
        return turns
    if all(turn.call is None for turn in turns if turn.role == "assistant"):
        return [msgspec.structs.replace(turn, call=None) for turn in turns]
    made: list[Message] = []
    every: list[_Call] = []
    open_: list[_Call] = []
    for number, turn in enumerate(turns, 1):
        call = turn.call
        if turn.role == "assistant" and call is not None:
            calls = orjson.loads(call)
            open_ = [_Call(c["id"], f"call{len(every) + n:05}", c["name"]) for n, c in enumerate(calls, 1)]
            every += open_
            call = _written([{**c, "id": one.id} for c, one in zip(calls, open_, strict=True)])
        elif turn.role == "tool":
            one = _answered_by(call, open_, every, number)
            open_ = [other for other in open_ if other != one]
            call = None if one is None else orjson.dumps({"id": one.id, "name": one.name}).decode()
        made.append(msgspec.structs.replace(turn, call=call))
    return made


def _answered_by(call: str | None, open_: Sequence[_Call], every: Sequence[_Call], number: int) -> _Call | None:
    said = {} if call is None else orjson.loads(call)
    if "id" in said:
        # From the newest back, since some servers number the calls of each turn from 0.
        found = next((one for one in (*open_, *reversed(every)) if one.given == said["id"]), None)
        if found is None:
            raise Fault("broken call", f"turn {number} answers call `{said['id']}`, which no turn before it makes")
        return found
    return next((one for one in open_ if said.get("name", one.name) == one.name), None)


def _call(call: Any, where: str) -> Fields:
    """Give id, name and arguments of one call, whether they stand in a `function` or side by side."""
    if not isinstance(call, dict):
        raise Fault("broken call", f"{where} is {kind(call)}, not an object")
    function = call.get("function", call)
    if call.get("type", "function") != "function" or not isinstance(function, dict):
        raise Fault("broken call", f"{where} is no function call: it has {listing(call)}")
    name, arguments, given = function.get("name"), function.get("arguments"), call.get("id")
    if not isinstance(name, str) or not name.strip():
        raise Fault("broken call", f"{where} names no function: it has {listing(function)}")
    if isinstance(arguments, str):
        arguments = _value(arguments, f"{where}, of `{name}`: `arguments`")
    if not isinstance(arguments, dict):
        raise Fault("broken call", f"{where}, of `{name}`: `arguments` is {kind(arguments)}, not a JSON object")
    return {"id": given if isinstance(given, str) and given else None, "name": name, "arguments": arguments}


def _tool(tool: Any, where: str) -> Fields:
    """Give one definition as templates take it; older ones stand bare."""
    function = tool.get("function", tool) if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name.strip() or tool.get("type", "function") != "function":
        raise Fault("broken tools", f"{where} is no function with a name")
    if "function" in tool:
        return dict(tool)
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def _value(text: str, what: str, reason: Any = "broken call") -> Any:
    value = parse_value(text)
    if isinstance(value, Fault):
        raise Fault(reason, f"{what} is no JSON that can be read: {value.reason}, {value.detail}: {text[:80]!r}")
    return value


def _written(value: list[Fields]) -> str:
    """Write JSON in the order given; it can also be written again inside a record.

    Raises:
        Fault: it is nested too deep for that, or holds a NUL.
    """
    try:
        orjson.dumps([[[[[[[[value]]]]]]]])
    except (TypeError, RecursionError):
        raise Fault("nested too deep", "in a tool call or a definition of a tool") from None
    if _holds_nul(value):
        raise Fault("NUL character", "in a tool call or a definition of a tool")
    return orjson.dumps(value).decode()


def _holds_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any("\0" in key or _holds_nul(inner) for key, inner in value.items())
    if isinstance(value, list):
        return any(map(_holds_nul, value))
    return isinstance(value, str) and "\0" in value
