"""Plan the tokens of a conversation with tools: where its answers and calls are trained, and what are control tokens.

What holds for a conversation of texts holds here: only the template writes control tokens, an answer begins where the
generation prompt ends, and it ends with the token that ends every answer. Definitions and results are never trained.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import orjson

from tunemill.errors import ModelError
from tunemill.models.plan import Control, Found, Plan, Run
from tunemill.models.template import Template
from tunemill.models.veil import SCHEMA_WORDS, Veil, each_string
from tunemill.rows import Message

Fields = dict[str, Any]
NO_PLACE = "the model's chat template has no place for tool calls"


class _Seen(NamedTuple):
    """Where a message stands in a rendering: the letters of it and of what is before it."""

    before: int
    """End of the last letter that anybody wrote before the message."""
    first: int
    last: int


def plan_calls(
    template: Template,
    messages: Sequence[Message],
    tools: str | None,
    generation_prompt: bool,
    find: Callable[[str], Iterable[Found]],
    end_id: int,
) -> Plan:
    """Cut the rendering of one conversation into control tokens and runs of text; the runs hold the text itself.

    Args:
        find: the control tokens of a text, in order.
        end_id: the token that ends an answer.

    Raises:
        ModelError: the template refuses the conversation, leaves out a call, a tool or a text of it, writes what
            depends on what they hold, or would be asked for something else than what is trained.
    """
    if messages and messages[0].role == "assistant":
        raise ModelError("a conversation opens with the assistant, so there is no prompt to answer; leave it out")
    veil = Veil()
    turns = [_veiled(veil, message, number) for number, message in enumerate(messages)]
    offered = None if tools is None else _offered(veil, orjson.loads(tools))
    whole = template.rendered(turns, generation_prompt, offered)
    _check_whole(veil, turns, offered, whole)
    if veil.lift(whole) != template.text(messages, generation_prompt, tools):
        raise ModelError(
            "the chat template writes tool calls in a way that depends on what they hold, so its own control tokens "
            "cannot be told from the text of the row; leave the row out, or use another template"
        )
    seen = _seen(veil, whole)
    found = list(find(whole))
    spans = []
    for number in (number for number, message in enumerate(messages) if message.role == "assistant"):
        asked = template.rendered(turns[:number], True, offered)
        start = _start(veil, whole, seen[number], asked, final=number == len(messages) - 1)
        end = _end(seen, number, found, end_id, len(messages))
        spans.append((start, end))
    return tuple(_parts(veil, whole, spans, found))


def _veiled(veil: Veil, message: Message, number: int) -> Fields:
    turn = message.fields
    turn["content"] = veil.hide(turn["content"], (number, "content"))
    if "name" in turn:
        turn["name"] = veil.hide(turn["name"], (number, "name"))
    for call in turn.get("tool_calls", ()):
        function = call["function"]
        hide: Callable[[str], str] = lambda text: veil.hide(text, (number, "call"))  # noqa: E731
        call["function"] = {"name": hide(function["name"]), "arguments": each_string(function["arguments"], hide)}
    return turn


def _offered(veil: Veil, tools: list[Fields]) -> list[Fields]:
    def hidden(number: int) -> Callable[[str], str]:
        return lambda text: text if text in SCHEMA_WORDS else veil.hide(text, (-1, str(number)))

    return [each_string(tool, hidden(number)) for number, tool in enumerate(tools)]


def _check_whole(veil: Veil, turns: Sequence[Fields], offered: list[Fields] | None, whole: str) -> None:
    """Make sure that each text and call stands in the rendering, once, and each tool."""
    letters = _letters(veil, whole)
    for name in (tool["function"]["name"] for tool in offered or ()):
        if (_letters(veil, name) or name) not in (letters if _letters(veil, name) else whole):
            raise ModelError(f"{NO_PLACE}: it leaves out the tool `{veil.lift(name)}` that the model is offered")
    written = Counter(letters)
    for number, turn in enumerate(turns):
        for call in turn.get("tool_calls", ()):
            if _letters(veil, name := call["function"]["name"]) not in letters:
                raise ModelError(f"{NO_PLACE}: it leaves out the call of `{veil.lift(name)}` in message {number + 1}")
        for part, texts in (("text", [turn["content"]]), ("calls", _strings(turn.get("tool_calls", [])))):
            wanted = Counter(_letters(veil, "".join(texts)))
            if any(written[letter] != count for letter, count in wanted.items()):
                raise ModelError(
                    f"the chat template does not write the {part} of message {number + 1} of {len(turns)} "
                    f"({turn['role']}) whole and once; leave the row out, or use another template"
                )


def _letters(veil: Veil, text: str) -> str:
    """Keep what is hidden of a text: all but what templates may trim or escape."""
    return "".join(letter for letter in text if veil.owner(letter))


def _strings(value: Any) -> list[str]:
    found: list[str] = []
    each_string(value, lambda text: found.append(text) or text)  # type: ignore[func-returns-value]
    return found


def _seen(veil: Veil, whole: str) -> dict[int, _Seen]:
    """Find every message in a rendering.

    Raises:
        ModelError: one begins before the one before it ends.
    """
    seen: dict[int, _Seen] = {}
    before, latest = 0, -1
    for at, letter in enumerate(whole):
        if (owner := veil.owner(letter)) is None:
            continue
        number = owner[0]
        if 0 <= number < latest:
            raise ModelError(f"the chat template writes message {number + 1} after message {latest + 1}; use another")
        if number >= 0:
            latest = number
            seen[number] = seen.get(number, _Seen(before, at, at))._replace(last=at)
        before = at + 1
    return seen


def _start(veil: Veil, whole: str, seen: _Seen | None, asked: str, final: bool) -> int:
    """Find where the model begins to write: where the generation prompt ends."""
    if seen is None:
        raise ModelError("an answer holds no letter, and stands beside tools; leave the row out")
    letters = (at for at in range(len(asked) - 1, -1, -1) if veil.owner(asked[at]))
    given = asked[next(letters, -1) + 1 :]
    start = seen.before + len(given)
    if not whole.startswith(given, seen.before) or start > seen.first or (final and whole[:start] != asked):
        raise ModelError(
            f"the chat template ends with {veil.lift(given[-60:])!r} when it asks for an answer, and writes "
            f"{veil.lift(whole[seen.before : seen.first][-60:])!r} before a finished one; what is trained would not be "
            "what is asked. Use another template"
        )
    return start


def _end(seen: dict[int, _Seen], number: int, found: Sequence[Found], end_id: int, count: int) -> int:
    """Find where the token ends that ends the turn, before anything of a later message."""
    later = [seen[other].first for other in range(number + 1, count) if other in seen]
    ends = (control.end for control in found if control.id == end_id and control.start > seen[number].last)
    end = next(ends, None)
    if end is None or (later and end > later[0]):
        raise ModelError(
            f"the chat template does not end message {number + 1} with the token that ends other answers (id {end_id}):"
            " the model would not stop; use another template"
        )
    return end


def _parts(veil: Veil, whole: str, spans: Sequence[tuple[int, int]], found: Sequence[Found]) -> Iterable[Control | Run]:
    """Cut at the control tokens, and within a run where training begins; it ends with a control token."""
    at, swallows = 0, False
    for control in (*found, None):
        stop = len(whole) if control is None else control.start
        if at < stop:
            inside = next((max(start, at) for start, end in spans if start < stop and at < end), stop)
            lead, answer = (veil.lift(text) for text in (whole[at:inside], whole[inside:stop]))
            pieces = ((lead,) if lead else (), (answer,) if answer else ())
            yield Run(*pieces, at == 0, swallows, control is not None and control.lstrip)
        if control is not None:
            yield Control(control.id, any(start <= control.start < end for start, end in spans))
            at, swallows = control.end, control.rstrip
