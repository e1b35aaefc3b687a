"""Say a model's chat template in Go, for Ollama's Modelfile; it is rendered and compared with the model's own."""

import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tunemill.errors import ModelError
from tunemill.exporting import go_template
from tunemill.exporting.chat_habit import PROBE, Habit, Trim, Write, habits
from tunemill.exporting.go_template import quoted
from tunemill.rows import ROLES, Message

_CONTENTS = (
    "Where?",
    'say "hi" and {{ .System }}',
    "one\ntwo\n\nthree",
    "Straße 東京 🚲 a\u200bb",
    "\\n %s }} ` '''",
    PROBE,
)


def ollama_template(write: Write, begins: str = "") -> str:
    """Give the TEMPLATE of a Modelfile that renders what `write(messages, True)` renders.

    A message that the model's own template refuses (a system message for Gemma 2) stops the request in Ollama with that
    reason: left out, it would go unnoticed.

    Args:
        begins: text of the token that the server itself puts before every prompt, "" where it puts none. It is left out
            of TEMPLATE, so that the prompt does not begin with it twice.

    Raises:
        ModelError: the model's template cannot be said like this; the message shows what differs.
    """
    habit, shapes = habits(write)
    template = _written(_without(habit, begins))
    for roles, first in itertools.product(shapes, range(len(_CONTENTS))):
        contents = itertools.islice(itertools.cycle(_CONTENTS), first, first + len(roles))
        messages = [Message(role, content) for role, content in zip(roles, contents, strict=True)]
        _compare(begins + go_template.render(template, messages), write(messages, True), roles)
    return template


def _compare(rendered: str, wanted: str, roles: Sequence[str]) -> None:
    if rendered != wanted:
        at = len(os.path.commonprefix([rendered, wanted]))  # noqa: RUF071 (of characters, not of folders)
        raise ModelError(
            f"the chat template cannot be said in Ollama's TEMPLATE: of a conversation of {', '.join(roles)} it writes "
            f"{wanted[max(0, at - 20) : at + 40]!r} where TEMPLATE gives {rendered[max(0, at - 20) : at + 40]!r}; "
            "leave `gguf` out of export.targets, or use another template"
        )


def _without(habit: Habit, begins: str) -> Habit:
    """Leave out what the server writes by itself.

    Raises:
        ModelError: the chat template does not write it, so that the model was trained without.
    """
    between = dict(habit.between)
    for (before, role), text in habit.between.items():
        if not before:
            if not text.startswith(begins):
                raise ModelError(
                    f"llama.cpp and Ollama put {begins!r} before every prompt of this GGUF, and the chat template that "
                    f"the model was trained with begins with {text[:30]!r}; tokenizer.ggml.add_bos_token must be false"
                )
            between[before, role] = text.removeprefix(begins)
    return habit._replace(between=between)


class _Piece(NamedTuple):
    """Text, a value that is written, or a control action."""

    kind: str
    text: str


def _written(habit: Habit) -> str:
    """Write the Go template of a habit."""
    used = {trim.name: trim for trim in habit.trims.values() if trim.name}
    pieces = [piece for trim in used.values() for piece in _definitions(trim)]
    turns: list[_Piece] = []
    for role in sorted(habit.trims, key=ROLES.index):
        turns += [_control(f'{"else if" if turns else "if"} eq .Role "{role}"'), *_turn(habit, role)]
    turns += [_control("else"), _control('call "no such role"'), _control("end")]
    asks = {role: text.removeprefix(habit.ends[role]) for role, text in habit.last.items()}
    opening = _chosen(asks, asks["user"])
    body = [_control("range .Messages"), *turns]
    if any("$previous" in piece.text for piece in [*turns, *opening]):
        pieces.append(_control('$previous := ""'))
        body.append(_control("$previous = .Role"))
    return _joined([*pieces, *body, _control("end"), *opening])


def _turn(habit: Habit, role: str) -> list[_Piece]:
    before = {p: text.removeprefix(habit.ends[p] if p else "") for (p, r), text in habit.between.items() if r == role}
    later = [text for previous, text in before.items() if previous]
    late = (
        [] if later or role != "system" else [_control("if $previous"), _control('call "late system"'), _control("end")]
    )
    usual = Counter(later or before.values()).most_common(1)[0][0]
    name = habit.trims[role].name
    content = _Piece("value", f"template {quoted(name)} .Content" if name else ".Content")
    return [*late, *_chosen(before, usual), content, *_text(habit.ends[role])]


def _chosen(texts: dict[str, str], usual: str) -> list[_Piece]:
    """Write the text that belongs to the role of the message before; what all end with stands once."""
    shared = usual if all(text.endswith(usual) for text in texts.values()) else ""
    others = {role: text for role, text in texts.items() if text != usual}
    pieces: list[_Piece] = []
    for role, text in others.items():
        word = "else if" if pieces else "if"
        pieces += [_control(f'{word} eq $previous "{role}"'), *_text(text.removesuffix(shared))]
    if others and usual != shared:
        pieces += [_control("else"), *_text(usual)]
    return [*pieces, *([_control("end")] if others else []), *_text(shared)]


def _definitions(trim: Trim) -> list[_Piece]:
    """Define a template that writes its argument trimmed, by calling itself on the rest: Go templates have no trim."""
    right = f"{trim.name} right"
    names = [(right, trim.right, "slice . (len (slice . {}))", "slice . 0 (len (slice . {}))", _Piece("value", "."))]
    if trim.left:
        after = _Piece("value", f"template {quoted(right)} .") if trim.right else _Piece("value", ".")
        names = [*(names if trim.right else []), (trim.name, trim.left, "slice . 0 {}", "slice . {}", after)]
    else:
        names = [(trim.name, *names[0][1:])]
    pieces = []
    for name, letters, edge, rest, after in names:
        pieces.append(_control(f"define {quoted(name)}"))
        for number, (width, group) in enumerate(_by_width(letters)):
            any_of = " ".join(map(quoted, group))
            test = f"{'else if' if number else 'if'} and (ge (len .) {width}) (eq ({edge.format(width)}) {any_of})"
            pieces += [_control(test), _Piece("value", f"template {quoted(name)} ({rest.format(width)})")]
        pieces += [_control("else"), after, _control("end"), _control("end")]
    return pieces


def _by_width(letters: str) -> list[tuple[int, list[str]]]:
    """Group characters by their bytes in UTF-8."""
    by_width = sorted(letters, key=lambda letter: len(letter.encode()))
    return [(width, list(group)) for width, group in itertools.groupby(by_width, lambda letter: len(letter.encode()))]


def _control(text: str) -> _Piece:
    return _Piece("control", text)


def _text(text: str) -> list[_Piece]:
    """Give literal text; what Go or the Modelfile would read as something else becomes a constant."""
    parts = re.split(r'(\{+|"{3,}|[^\S\n ]+|[^ -~\n]+)', text)
    safe = (number % 2 == 0 or (part.isprintable() and part[:1] not in ("{", '"')) for number, part in enumerate(parts))
    return [
        _Piece("text", p) if plain else _Piece("value", quoted(p)) for p, plain in zip(parts, safe, strict=True) if p
    ]


def _joined(pieces: Sequence[_Piece]) -> str:
    """Write pieces; a control action that follows another begins a line of its own, whose break is trimmed."""
    out = ""
    before = "control"
    for kind, text in pieces:
        new_line = kind == before == "control"
        action = f"{{{{- {text} }}}}" if new_line else f"{{{{ {text} }}}}"
        out += text if kind == "text" else f"\n{action}" if new_line and out else action
        before = kind
    return out
