"""Plan which parts of a rendering are control tokens, which are text, and which of them are trained."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tunemill.errors import ModelError
from tunemill.models.template import Skeleton


class Found(NamedTuple):
    """A control token in a literal: its span in characters, and whether it swallows the spaces beside it."""

    start: int
    end: int
    id: int
    lstrip: bool
    rstrip: bool


class Control(NamedTuple):
    """A control token that the template writes."""

    id: int
    trained: bool


class Run(NamedTuple):
    """Text between two control tokens, as literals and message numbers: `lead` is context, `answer` is trained."""

    lead: tuple[str | int, ...]
    answer: tuple[str | int, ...]
    at_start: bool
    lstrip: bool
    rstrip: bool


Plan = tuple[Control | Run, ...]
Find = Callable[[str], Iterable[Found]]


def plan(skeleton: Skeleton, roles: tuple[str, ...], asks: Callable[[int], Skeleton], find: Find) -> Plan:
    """Train what the model itself has to write: from the generation prompt to the token that ends the turn.

    Args:
        skeleton: the rendering of the conversation.
        roles: role of each message.
        asks: for a message number, the rendering of the messages before it with the generation prompt.
        find: the control tokens of a literal, in order.

    Raises:
        ModelError: an answer is not followed by a control token, or does not begin where the generation prompt ends.
    """
    answers = [at for at, slot in enumerate(skeleton.slots) if roles[slot] == "assistant"]
    builder = _Builder(find)
    for at, literal in enumerate(skeleton.literals):
        cut = len(literal)
        if at in answers:
            cut = _cut(skeleton, at, asks(skeleton.slots[at]), last=at == answers[-1])
        builder.literal(literal[:cut])
        if at in answers:
            builder.trained = True
            builder.literal(literal[cut:])
        if at < len(skeleton.slots):
            builder.add(skeleton.slots[at])
            builder.ending = at in answers
    builder.flush(rstrip=False)
    return tuple(builder.parts)


def _cut(skeleton: Skeleton, at: int, asked: Skeleton, last: bool) -> int:
    """Find how many characters of a literal the model is given before it answers."""
    given, literal = asked.literals[-1], skeleton.literals[at]
    before = (asked.literals[:-1], asked.slots) == (skeleton.literals[:at], skeleton.slots[:at])
    if not literal.startswith(given) or (last and not before):
        raise ModelError(
            f"the chat template ends with {given[-60:]!r} when it asks for an answer, and writes {literal[-60:]!r} "
            "before a finished one; what is trained would not be what is asked. Use another template"
        )
    return len(given)


class _Builder:
    """Collect runs and control tokens from left to right."""

    def __init__(self, find: Find) -> None:
        self.parts: list[Control | Run] = []
        self.trained = False
        self.ending = False
        self._find = find
        self._lead: list[str | int] = []
        self._answer: list[str | int] = []
        self._lstrip = False

    def literal(self, text: str) -> None:
        found = list(self._find(text))
        if self.ending and not (found and not text[: found[0].start].strip()):
            raise ModelError(
                f"the chat template writes {text[:40]!r} after an answer, and no control token ends the turn: "
                "the end of turn is never trained; the model would not stop"
            )
        at = 0
        for control in found:
            self.add(text[at : control.start])
            self.flush(control.lstrip)
            self.parts.append(Control(control.id, self.trained))
            self._lstrip = control.rstrip
            if self.ending:
                self.trained = self.ending = False
            at = control.end
        self.add(text[at:])

    def add(self, piece: str | int) -> None:
        if piece != "":
            (self._answer if self.trained else self._lead).append(piece)

    def flush(self, rstrip: bool) -> None:
        if self._lead or self._answer:
            run = Run(tuple(self._lead), tuple(self._answer), not self.parts, self._lstrip, rstrip)
            self.parts.append(run)
        self._lead, self._answer = [], []
