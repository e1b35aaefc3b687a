"""Say what can be wrong with a record or a file: a short fixed reason, which is counted, and a detail that varies."""

from typing import Any, Literal

Reason = Literal[
    # the bytes of a record
    "invalid UTF-8",
    "NUL character",
    "too long",
    "broken JSON",
    "number out of range",
    "duplicate key",
    "lone surrogate",
    "nested too deep",
    "broken CSV",
    "too few columns",
    "too many columns",
    "unreadable header",
    "duplicate column",
    # what a record holds
    "not an object",
    "no known shape",
    "missing key",
    "wrong type",
    "unsupported key",
    "broken call",
    "broken tools",
    "empty messages",
    "missing role",
    "unknown role",
    "missing content",
    "empty turn",
    "empty answer",
    "turn weight",
    "no assistant turn",
    "no preference",
    "thumbs down",
    # a message of a flat conversation tree
    "missing parent",
    "circular parents",
    "duplicate message",
    # what a log says of a request
    "failed request",
    "answer cut off",
    "answer filtered",
    # a file that cannot be read to its end
    "unclosed quote",
    "broken JSON array",
    "broken gzip",
    "gzip bomb",
    "broken zstandard",
    "zstandard bomb",
]

_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


class Fault(Exception):
    """Stop the reading of one record; the records after it are not touched."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class CutShort(Fault):
    """Stop the reading of a file: nothing after `line`, where the last record began, can be trusted or found."""

    def __init__(self, reason: Reason, detail: str, line: int = 1, raw: bytes = b"") -> None:
        super().__init__(reason, detail)
        self.line = line
        self.raw = raw


def kind(value: Any) -> str:
    """Name the JSON type of a value in words that fit after "is"."""
    return _KINDS.get(type(value), type(value).__name__)


def listing(names: Any) -> str:
    """Write names for a message, the first twelve of them."""
    known = [str(name) for name in names]
    more = f" and {len(known) - 12} more" if len(known) > 12 else ""
    return (", ".join(known[:12]) or "none") + more
