"""Tell the shape of a record by its keys, and make turns of it: one function a shape, one table at the foot."""

from collections.abc import Callable
from typing import Any

import msgspec

from tunemill.rows import Message
from tunemill.sources import logs, trees
from tunemill.sources.calls import linked, tools_of
from tunemill.sources.reasons import Fault, listing
from tunemill.sources.turns import Fields, chat, check_no_history, joined, text_of, turn, with_system


class Shaped(msgspec.Struct):
    """What a record says, whatever its shape was."""

    turns: list[Message]
    rejected: tuple[Message, ...] | None = None
    """Of a preference pair, the turns that were liked less than those after the prompt."""
    others: int = 0
    """Answers beside the one that is taken: choices of a response, replies of a tree."""
    tools: str | None = None
    """The functions that the model could call, as a row holds them."""


def known_keys(record: Fields) -> tuple[str, ...] | None:
    """Give the keys by which the record's shape is known, None where it has none."""
    for keys in SHAPES:
        if keys[0] in record and keys[-1] in record:  # none has more than two; `all(...)` takes three times as long
            return keys
    return None


def shaped(record: Fields) -> Shaped:
    """Make turns of a record of a known shape."""
    keys = known_keys(record)
    if keys is None:
        raise _unknown(record)
    check_no_history(record)
    made = SHAPES[keys](record)
    if "tools" in record or "functions" in record:
        made.tools = made.tools or tools_of(record)
    if "system" in record:
        made.turns = with_system(text_of(record, "system", optional=True), made.turns)
    return made


def _unknown(record: Fields) -> Fault:
    if "parent_id" in record:
        detail = "one message of a conversation tree; give all of them in one JSONL file, with `message_id` and `role`"
        return Fault("no known shape", detail)
    known = "; ".join(" + ".join(keys) for keys in SHAPES)
    detail = f"found {listing(record)}; known are {known}, or name the columns in ingest.map"
    return Fault("no known shape", detail)


def _pair(record: Fields) -> Shaped:
    """Take the turns that two answers have in common as their prompt, where the record does not name it."""
    chosen, rejected = (_answer(record, key) for key in ("chosen", "rejected"))
    if chosen[0].role == rejected[0].role == "assistant":
        prompt = _prompt(record)
    else:
        same = [one == other for one, other in zip(chosen, rejected, strict=False)]
        shared = same.index(False) if False in same else len(same)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    if chosen == rejected:
        raise Fault("no preference", "`chosen` and `rejected` are the same")
    for key, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns or turns[-1].role != "assistant" or not turns[-1].said.strip():
            raise Fault("no preference", f"`{key}` does not end with an answer of its own after the common prompt")
    return Shaped([*prompt, *chosen], tuple(linked([*prompt, *rejected])[len(prompt) :]))


def _answer(record: Fields, key: str) -> list[Message]:
    value = record[key]
    if isinstance(value, str):
        return [Message("assistant", value)]
    return [turn(value, 1, "assistant")] if isinstance(value, dict) else chat(value, key)


def _prompt(record: Fields) -> list[Message]:
    for key in ("prompt", "messages", "conversations"):
        if key in record:
            value = record[key]
            return [Message("user", value)] if isinstance(value, str) else chat(value, key)
    return [_asked(record)]


def _asked(record: Fields) -> Message:
    return Message("user", joined(text_of(record, "instruction"), text_of(record, "input", optional=True)))


def _exchange(record: Fields) -> Shaped:
    request, response = logs.exchange(record)
    if request is not record:
        check_no_history(request)
    turns, others = logs.turns(record, request, response)
    return Shaped(turns, others=others, tools=tools_of(request))


def _tree(root: Any) -> Shaped:
    turns, others = trees.best_path(root)
    return Shaped(turns, others=others)


def _completion(record: Fields) -> Shaped:
    """Read two texts, or two lists of turns as TRL writes them."""
    texts = record["prompt"], record["completion"]
    if isinstance(texts[0], list) and isinstance(texts[1], list):
        return Shaped([*chat(texts[0], "prompt"), *chat(texts[1], "completion")])
    return Shaped([Message("user", text_of(record, "prompt")), Message("assistant", text_of(record, "completion"))])


SHAPES: dict[tuple[str, ...], Callable[[Fields], Shaped]] = {
    ("chosen", "rejected"): _pair,
    ("request", "response"): _exchange,
    ("messages", "choices"): _exchange,
    ("messages",): lambda record: Shaped(chat(record["messages"])),
    ("conversations",): lambda record: Shaped(chat(record["conversations"], "conversations")),
    ("instruction", "output"): lambda record: Shaped([_asked(record), Message("assistant", text_of(record, "output"))]),
    ("prompt", "completion"): _completion,
    ("message_tree_id", "prompt"): lambda record: _tree(record["prompt"]),
    ("replies",): _tree,
}
"""Keys by which a shape is known, and what makes turns of it; the first that fits is taken."""
