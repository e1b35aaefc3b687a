"""Write a Modelfile, and read one as Ollama does.

Ollama keeps only printable characters, blanks and line breaks of a Modelfile, and ends a value in three quotation marks
where a line ends with three. What is written here is read back and compared, so nothing is lost on the way.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from tunemill.errors import ModelError
from tunemill.exporting import go_template
from tunemill.rows import Message

_WORD = re.compile(r"[A-Za-z]+")
_PLAIN = re.compile(r"[A-Za-z0-9.]+")
_PARAMETER = re.compile(r"[A-Za-z0-9_]+")


class Modelfile(NamedTuple):
    """What a Modelfile tells Ollama."""

    gguf: str
    """Path of the GGUF, relative to the Modelfile."""
    template: str
    system: str | None
    parameters: Mapping[str, tuple[str, ...]]
    """Name → its values in order; `stop` may have several."""

    def prompt(self, messages: Sequence[Message]) -> str:
        """Give what the model is shown; a conversation that does not open with a system message is given SYSTEM.

        Raises:
            ModelError: TEMPLATE refuses the conversation, or says what `go_template` does not know.
        """
        given = [Message("system", self.system)] if self.system and messages[0].role != "system" else []
        return go_template.render(self.template, [*given, *messages])


def write(modelfile: Modelfile, note: str = "") -> str:
    """Give the text of a Modelfile; `note` is one line for people.

    Raises:
        ModelError: Ollama would read another value than was meant.
    """
    lines = [f"# {note}"] if note else []
    lines += [f"FROM {modelfile.gguf}", f'TEMPLATE """{modelfile.template}"""']
    lines += [] if modelfile.system is None else [f'SYSTEM """{modelfile.system}"""']
    for name, values in modelfile.parameters.items():
        lines += [f"PARAMETER {name} {_quoted(value)}" for value in values]
    text = "\n".join(lines) + "\n"
    for field, meant, got in zip(Modelfile._fields, modelfile, parse(text), strict=True):
        if meant != got:
            raise ModelError(
                f"Ollama would read {field} of the Modelfile as {got!r} and not as {meant!r}; "
                "take out characters that cannot be printed, and three quotation marks in a row"
            )
    return text


def _quoted(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else f'"{value}"'


def parse(text: str) -> Modelfile:
    """Read a Modelfile as Ollama reads it.

    Raises:
        ModelError: there is no FROM, a command is not known, or a value is not closed.
    """
    single = {"from": "", "template": "", "system": None}
    parameters: dict[str, tuple[str, ...]] = {}
    for name, value in _commands(text):
        command, _, parameter = name.partition(" ")
        if command == "parameter":
            parameters[parameter] = (*parameters.get(parameter, ()), value)
        elif command in single:
            single[command] = value
        else:
            raise ModelError(f"the Modelfile has {command.upper()}, which Tunemill does not write")
    if not single["from"]:
        raise ModelError("the Modelfile has no FROM, so it names no GGUF")
    return Modelfile(single["from"], single["template"] or "", single["system"], parameters)


def _commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield the commands in small letters (`parameter` with the parameter's name) and their values."""
    at = 0
    while at < len(text):
        if text[at] in " \t\r\n":
            at += 1
        elif text[at] == "#":
            at = min((end for end in (text.find("\n", at), text.find("\r", at)) if end >= 0), default=len(text))
        else:
            name, at = _name(text, at, _WORD)
            if name.lower() == "parameter":
                parameter, at = _name(text, at, _PARAMETER)
                name += f" {parameter}"
            value, at = _value(text, at, name)
            head, _, tail = name.partition(" ")
            yield f"{head.lower()} {tail}".strip(), value


def _name(text: str, at: int, pattern: re.Pattern[str]) -> tuple[str, int]:
    found = pattern.match(text, at)
    if not found or text[found.end() : found.end() + 1] not in (" ", "\t"):
        raise ModelError(f"the Modelfile has no command and value at {text[at : at + 30]!r}")
    return found[0], found.end() + 1


def _value(text: str, at: int, name: str) -> tuple[str, int]:
    """Read a value up to the end of the first line on which it is closed."""
    kept = ""
    for place in range(at, len(text)):
        letter = text[place]
        if letter in "\r\n" and (value := _unquoted(kept.strip())) is not None:
            return value, place + 1
        if letter.isprintable() or letter in " \t\r\n":
            kept += letter
    value = _unquoted(kept.strip())
    if value is None:
        raise ModelError(f"the value of {name.upper()} in the Modelfile is not closed")
    return value, len(text)


def _unquoted(value: str) -> str | None:
    for quote in ('"""', '"'):
        if value.startswith(quote):
            closed = len(value) >= 2 * len(quote) and value.endswith(quote)
            return value[len(quote) : -len(quote)] if closed else None
    return value
