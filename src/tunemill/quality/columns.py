"""Clean rows and derive, once, the columns that rules are written on."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from tunemill.errors import ModelError
from tunemill.quality.settings import RoleOrder, ValidateSettings, Whitespace
from tunemill.rows import Message, Row, with_messages

if TYPE_CHECKING:
    import pandas as pd

CountTokens = Callable[[Sequence[Message], str | None], int]
"""Give the tokens of a conversation and the tools offered in it."""

COLUMNS: dict[str, str] = {
    "row": "position among the rows from old to new, from 0; unique",
    "row_id": "content id of the conversation",
    "source": "sha256 of the file that it was read from",
    "line": "line of that file, from 1",
    "conversation": "id of the conversation in the log, null where it has none",
    "user": "id of the user in the log, null where it has none",
    "time": "ISO 8601 as the log gave it, null where it has none",
    "text": "all turns, one below the other",
    "system": "the system turns, null where there is none",
    "prompt": "the user turns before the last answer with an empty line between them, null where empty",
    "answer": "the last assistant turn with its tool calls as JSON, null where empty",
    "answer_json": "the answer where it is a JSON object or array, else null",
    "answer_is_json": "whether it is",
    "roles": 'the roles in order, e.g. "system user assistant"',
    "roles_in_order": "whether they follow `validate.roles`",
    "turns": "number of turns",
    "empty_turns": "number of user and assistant turns that hold nothing but white space",
    "prompt_characters": "length of `prompt`, 0 where null",
    "answer_characters": "length of `answer`, 0 where null",
    "calls_refused": "why the model's chat template cannot write the row's tools and calls, null where it can",
    "tokens": "length of the whole conversation in tokens, null where no template fits: roles out of order, calls",
}
"""Every column of the frame with its meaning. A rule on a column skips nulls, as everywhere in Great Expectations."""

_LETTERS = {"system": "s", "user": "u", "assistant": "a", "tool": "t"}
_ORDERS: dict[RoleOrder, re.Pattern[str]] = {
    "alternating": re.compile(r"s?(ua(t+a)*)+"),
    "free": re.compile(r"[suat]*a"),
}


def clean(row: Row, settings: ValidateSettings) -> Row:
    """Tidy the white space of every turn; the row's id follows its new content, its origin stays."""
    messages = tuple(Message(m.role, _tidy(m.content, settings.whitespace), m.call) for m in row.messages)
    if messages == row.messages:
        return row
    return with_messages(row, messages)


def frame(rows: Sequence[Row], count_tokens: CountTokens, roles: RoleOrder = "alternating") -> "pd.DataFrame":
    """Derive one line a row, in the order given, with exactly the columns of `COLUMNS`.

    Columns are made one after the other, so that the Python objects of one are gone before the next is made.
    """
    import pandas as pd

    def column(dtype: str, value: Callable[[Row], Any]) -> "pd.Series[Any]":
        return pd.Series([value(row) for row in rows], dtype=dtype)

    in_order = column("bool", lambda row: _in_order(row, roles))
    refused: dict[int, str] = {}
    tokens = [
        _tokens(row, count_tokens, refused, place) if good else None
        for place, (row, good) in enumerate(zip(rows, in_order, strict=True))
    ]
    return pd.DataFrame(
        {
            "row": pd.Series(range(len(rows)), dtype="int64"),
            "row_id": column("str", lambda row: row.row_id),
            "source": column("str", lambda row: row.source),
            "line": column("int64", lambda row: row.line),
            "conversation": column("str", lambda row: row.conversation),
            "user": column("str", lambda row: row.user),
            "time": column("str", lambda row: row.time),
            "text": column("str", lambda row: "\n".join(m.said for m in row.messages)),
            "system": column("str", lambda row: _joined(row.messages, "system") or None),
            "prompt": column("str", lambda row: _prompt(row) or None),
            "answer": column("str", lambda row: _answer(row) or None),
            "answer_json": column("str", lambda row: _answer(row) if _is_json(_answer(row)) else None),
            "answer_is_json": column("bool", lambda row: _is_json(_answer(row))),
            "roles": column("str", lambda row: " ".join(m.role for m in row.messages)),
            "roles_in_order": in_order,
            "turns": column("int64", lambda row: len(row.messages)),
            "empty_turns": column("int64", _empty_turns),
            "prompt_characters": column("int64", lambda row: len(_prompt(row))),
            "answer_characters": column("int64", lambda row: len(_answer(row))),
            "calls_refused": pd.Series([refused.get(place) for place in range(len(rows))], dtype="str"),
            "tokens": pd.Series(tokens, dtype="float64"),
        }
    )


def _tokens(row: Row, count_tokens: CountTokens, refused: dict[int, str], place: int) -> int | None:
    """Count a row's tokens; one with tools that the template does not take is written down in `refused` instead."""
    try:
        return count_tokens(row.messages, row.tools)
    except ModelError as error:
        if not row.calls:
            raise
        refused[place] = str(error)
        return None


def _in_order(row: Row, order: RoleOrder) -> bool:
    letters = "".join(_LETTERS.get(m.role, "?") for m in row.messages)
    return _ORDERS[order].fullmatch(letters) is not None


def _prompt(row: Row) -> str:
    return _joined(row.prompt, "user")


def _answer(row: Row) -> str:
    return row.answer if row.answer.strip() else ""


def _joined(messages: Sequence[Message], role: str) -> str:
    return "\n\n".join(m.content for m in messages if m.role == role and m.content.strip())


def _empty_turns(row: Row) -> int:
    return sum(m.role in ("user", "assistant") and not m.said.strip() for m in row.messages)


def _tidy(text: str, whitespace: Whitespace) -> str:
    if whitespace.collapse:
        return " ".join(text.split())
    if not whitespace.strip:
        return text
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).rstrip()


def _is_json(text: str) -> bool:
    """Tell a JSON object or array from prose; a bare number or word is prose."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
