"""Hide what people wrote behind letters that no template knows, so that a rendering shows whose each letter is.

Templates write calls and tools as JSON, item by item, so no mark can stand in place of the whole. A veil replaces each
letter by one of Unicode's private planes, another for each owner. White space, quotes, backslashes and what JSON
escapes stay, so templates trim and escape as ever; what is left uncovered spells no control token.
"""

from collections.abc import Callable
from typing import Any

from tunemill.errors import ModelError

FIRST, LAST = 0xF0000, 0x10FFFD
Owner = tuple[int, str]
"""Number of a message and which part of it, or (-1, the tool's number)."""

SCHEMA_WORDS = frozenset(
    {"type", "function", "name", "description", "parameters", "properties", "required", "items", "enum", "default"}
    | {"format", "title", "strict", "additionalProperties", "anyOf", "allOf", "oneOf", "not", "const", "pattern"}
    | {"minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength", "nullable", "return"}
    | {"string", "number", "integer", "boolean", "object", "array", "null"}
)
"""Words of a tool's definition that templates look for; they stay as they are."""


class Veil:
    """Hide texts and lift the veil again."""

    def __init__(self) -> None:
        self._shown: dict[int, str] = {}
        self._owners: dict[str, Owner] = {}
        self._tables: dict[Owner, _Letters] = {}

    def hide(self, text: str, owner: Owner) -> str:
        """Replace every letter that may be hidden by the owner's."""
        if owner not in self._tables:
            self._tables[owner] = _Letters(lambda letter: self._hidden(letter, owner))
        return text.translate(self._tables[owner])

    def lift(self, text: str) -> str:
        """Give the text as it was written."""
        return text.translate(self._shown)

    def owner(self, letter: str) -> Owner | None:
        """Say whose a letter of a rendering is; the template's where it is None."""
        return self._owners.get(letter)

    def _hidden(self, letter: str, owner: Owner) -> str:
        point = FIRST + len(self._shown)
        if point > LAST:
            raise ModelError(f"a conversation with tool calls has over {LAST - FIRST:,} different letters in its turns")
        self._shown[point] = letter
        self._owners[chr(point)] = owner
        return chr(point)


class _Letters(dict[int, str]):
    """A table for `str.translate` that is made as letters come."""

    def __init__(self, hidden: Callable[[str], str]) -> None:
        self._hidden = hidden

    def __missing__(self, point: int) -> str:
        letter = chr(point)
        kept = letter in '"\\' or letter.isspace() or point < 32
        self[point] = letter if kept else self._hidden(letter)
        return self[point]


def each_string(value: Any, change: Callable[[str], str]) -> Any:
    """Give a JSON value with every string in it changed, keys too."""
    if isinstance(value, dict):
        return {change(key): each_string(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [each_string(inner, change) for inner in value]
    return change(value) if isinstance(value, str) else value
