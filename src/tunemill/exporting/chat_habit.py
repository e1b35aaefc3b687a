"""Learn what a chat template writes around the contents of a conversation, whatever it looks like inside.

A template is taken to write a fixed text between two contents, which depends on the roles of the two messages, and a
fixed text before the first and after the last. That covers a system prompt of its own where none is given, one that is
put into the first question, and a model that takes none. Content may be trimmed.
"""

import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tunemill.errors import ModelError
from tunemill.rows import Message

Write = Callable[[Sequence[Message], bool], str]
"""The model's own template: `Chat.text`."""
Roles = tuple[str, ...]

_MARK = re.compile(r"TUNEMILLxCONTENTx(\d+)xEND")
_CORE: list[Roles] = [
    ("system",) * given + ("user", "assistant") * turns + ("user",) for turns in range(4) for given in (0, 1)
]
"""Conversations that end in a question, with and without a system message: what is asked of a model."""
_LATE_SYSTEM: list[Roles] = [("system", "user", "system", "user"), ("system", "user", "assistant", "system", "user")]
_TOOLS: list[Roles] = [
    ("system",) * given + ("user", "assistant", "tool") + more
    for given in (0, 1)
    for more in ((), ("user",), ("tool", "assistant", "user"))
]
PROBE = "\n\u3000 \u00a0a  b\u00a0 \u3000\n"
"""A content that comes out differently from every trim."""


class Trim(NamedTuple):
    """What a template takes away from content: which characters, and on which sides."""

    of: Callable[[str], str]
    name: str = ""
    left: str = ""
    right: str = ""


_BLANKS = "".join(letter for letter in map(chr, range(0x3001)) if letter.isspace())
_TRIMS = (
    Trim(str),
    Trim(str.strip, "strip", _BLANKS, _BLANKS),
    Trim(str.lstrip, "lstrip", _BLANKS),
    Trim(str.rstrip, "rstrip", "", _BLANKS),
    Trim(lambda content: content.strip("\n"), "striplines", "\n", "\n"),
    Trim(lambda content: content.lstrip("\n"), "lstriplines", "\n"),
    Trim(lambda content: content.rstrip("\n"), "rstriplines", "", "\n"),
)


class Habit(NamedTuple):
    """What a chat template writes around contents, told by roles; "" stands for no message."""

    between: dict[tuple[str, str], str]
    """(role before, role after) → text between their contents."""
    last: dict[str, str]
    """Role of the last message → what follows its content: its end, and the opening of the answer."""
    ends: dict[str, str]
    """Role → what ends its turn, whatever comes then."""
    trims: dict[str, Trim]
    """Role → what becomes of its content."""

    def text(self, messages: Sequence[Message]) -> str:
        """Write a conversation."""
        roles = ["", *(message.role for message in messages)]
        parts = zip(itertools.pairwise(roles), messages, strict=True)
        inner = (self.between[pair] + self.trims[message.role].of(message.content) for pair, message in parts)
        return "".join(inner) + self.last[roles[-1]]


def habits(write: Write) -> tuple[Habit, list[Roles]]:
    """Give the habit of a chat template and the conversations that it was learnt from.

    Tool results and later system messages are part of it where the template takes them and they fit.

    Raises:
        ModelError: the template takes no question, or does more than a habit can say; the message shows what.
    """
    shapes = _accepted(write, _CORE)
    habit = learn(write, shapes)
    for more in (_LATE_SYSTEM, _TOOLS):
        with contextlib.suppress(ModelError):
            habit, shapes = learn(write, wider := shapes + _accepted(write, more)), wider
    return habit, shapes


def learn(write: Write, shapes: Sequence[tuple[str, ...]]) -> Habit:
    """Find what a chat template writes around contents, from conversations whose contents are marks.

    Raises:
        ModelError: two conversations differ in more than the roles of neighbours, or content is changed beyond a trim.
    """
    between: dict[tuple[str, str], str] = {}
    last: dict[str, str] = {}
    endings: dict[str, list[str]] = {}
    for roles in shapes:
        *literals, after = _literals(write, roles, True)
        for pair, literal in zip(itertools.pairwise(["", *roles]), literals, strict=True):
            _same(between.setdefault(pair, literal), literal, f"before the {pair[1]} message", roles)
            if pair[0]:
                endings.setdefault(pair[0], []).append(literal)
        _same(last.setdefault(roles[-1], after), after, "at the end", roles)
        endings.setdefault(roles[-1], []).append(after)
        for number, role in enumerate(roles):
            with contextlib.suppress(ModelError):
                endings[role].append(_literals(write, roles[: number + 1], False)[-1])
    habit = Habit(between, last, {role: _end(texts) for role, texts in endings.items()}, {})
    for role in endings:
        habit.trims[role] = _trim(write, role, shapes, habit)
    return habit


def _accepted(write: Write, shapes: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Keep the conversations that the chat template takes.

    Raises:
        ModelError: it does not take a single question.
    """
    kept = []
    for roles in shapes:
        try:
            write([Message(role, "Where?") for role in roles], True)
            kept.append(roles)
        except ModelError:
            if roles == ("user",):
                raise
    return kept


def _literals(write: Write, roles: Sequence[str], asks: bool) -> list[str]:
    marks = [Message(role, f"TUNEMILLxCONTENTx{number}xEND") for number, role in enumerate(roles)]
    parts = _MARK.split(write(marks, asks))
    order = [int(number) + 1 for number in parts[1::2]]
    if order != list(range(1, len(roles) + 1)):
        raise ModelError(
            f"the chat template cannot be said in Ollama's TEMPLATE: of the messages {', '.join(roles)} it writes "
            f"{', '.join(map(str, order)) or 'none'} in this order, unchanged; leave `gguf` out of export.targets"
        )
    return parts[::2]


def _end(texts: Sequence[str]) -> str:
    """Give what all texts begin with, cut back to the end of a token or a line where it stops inside one."""
    common = os.path.commonprefix(texts)  # noqa: RUF071 (of characters, not of folders)
    return common if common in texts else re.sub(r"[^>\]\s]*$", "", common)


def _trim(write: Write, role: str, shapes: Sequence[tuple[str, ...]], habit: Habit) -> Trim:
    chosen = next(roles for roles in shapes if role in roles)
    messages = [Message(each, PROBE if each == role else "Where?") for each in chosen]
    plain = dict.fromkeys(habit.ends, _TRIMS[0])
    wanted = write(messages, True)
    for trim in _TRIMS:
        if habit._replace(trims={**plain, role: trim}).text(messages) == wanted:
            return trim
    raise ModelError(f"the chat template changes the content of a {role} message: {PROBE!r} comes out in {wanted!r}")


def _same(known: str, written: str, where: str, roles: Sequence[str]) -> None:
    if known != written:
        raise ModelError(
            f"the chat template cannot be said in Ollama's TEMPLATE: {where} of a conversation of {', '.join(roles)} "
            f"it writes {written!r}, and in another {known!r}; leave `gguf` out of export.targets"
        )
