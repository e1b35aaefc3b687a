"""Clean rows and derive, once, the columns that rules are written on."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson
from msgspec.structs import replace

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

STRETCH = 8_192
"""Rows whose columns are derived at once."""
_LETTERS = {"system": "s", "user": "u", "assistant": "a", "tool": "t"}
_ORDERS: dict[RoleOrder, re.Pattern[str]] = {
    "alternating": re.compile(r"s?(ua(t+a)*)+"),
    "free": re.compile(r"[suat]*a"),
}


def clean(row: Row, settings: ValidateSettings) -> Row:
    """Tidy the white space of every turn; the row's id follows its new content, its origin stays."""
    whitespace = settings.whitespace
    tidied = [_tidy(m.content, whitespace) for m in row.messages]
    if tidied == [m.content for m in row.messages]:
        return row
    messages = zip(row.messages, tidied, strict=True)
    return with_messages(row, tuple(replace(message, content=text) for message, text in messages))


def frame(rows: Sequence[Row], count_tokens: CountTokens, roles: RoleOrder = "alternating") -> "pd.DataFrame":
    """Derive one line a row, in the order given, with exactly the columns of `COLUMNS`.

    Rows are taken a stretch at a time, so that the Python objects of one are gone before the next are made.
    """
    import pandas as pd

    starts = range(0, max(len(rows), 1), STRETCH)
    parts = [_stretch(rows[start : start + STRETCH], start, count_tokens, roles) for start in starts]
    return pd.concat(parts, ignore_index=True)


def _stretch(rows: Sequence[Row], first: int, count_tokens: CountTokens, order: RoleOrder) -> "pd.DataFrame":
    import pandas as pd

    said = [tuple([m.role for m in row.messages]) for row in rows]
    in_order = [_in_order(roles, order) for roles in said]
    prompts = [_joined(row.prompt, "user") for row in rows]
    refused: dict[int, str] = {}
    tokens = [
        _tokens(row, count_tokens, refused, place) if good else None
        for place, (row, good) in enumerate(zip(rows, in_order, strict=True))
    ]
    answers = ["" if (answer := row.answer).isspace() else answer for row in rows]
    is_json = [_is_json(answer) for answer in answers]
    columns: dict[str, tuple[str, Iterable[Any]]] = {
        "row": ("int64", range(first, first + len(rows))),
        "row_id": ("str", (row.row_id for row in rows)),
        "source": ("str", (row.source for row in rows)),
        "line": ("int64", (row.line for row in rows)),
        "conversation": ("str", (row.conversation for row in rows)),
        "user": ("str", (row.user for row in rows)),
        "time": ("str", (row.time for row in rows)),
        "text": ("str", ("\n".join([m.said for m in row.messages]) for row in rows)),
        "system": ("str", (_joined(row.messages, "system") or None for row in rows)),
        "prompt": ("str", (prompt or None for prompt in prompts)),
        "answer": ("str", (answer or None for answer in answers)),
        "answer_json": ("str", (answer if good else None for answer, good in zip(answers, is_json, strict=True))),
        "answer_is_json": ("bool", is_json),
        "roles": ("str", map(" ".join, said)),
        "roles_in_order": ("bool", in_order),
        "turns": ("int64", map(len, said)),
        "empty_turns": ("int64", map(_empty_turns, rows)),
        "prompt_characters": ("int64", map(len, prompts)),
        "answer_characters": ("int64", map(len, answers)),
        "calls_refused": ("str", map(refused.get, range(len(rows)))),
        "tokens": ("float64", tokens),
    }
    return pd.DataFrame({name: pd.Series(list(values), dtype=dtype) for name, (dtype, values) in columns.items()})


def _tokens(row: Row, count_tokens: CountTokens, refused: dict[int, str], place: int) -> int | None:
    """Count a row's tokens; one with tools that the template does not take is written down in `refused` instead."""
    try:
        return count_tokens(row.messages, row.tools)
    except ModelError as error:
        if not row.calls:
            raise
        refused[place] = str(error)
        return None


@lru_cache(1_000)
def _in_order(roles: tuple[str, ...], order: RoleOrder) -> bool:
    letters = "".join(_LETTERS.get(role, "?") for role in roles)
    return _ORDERS[order].fullmatch(letters) is not None


def _joined(messages: Sequence[Message], role: str) -> str:
    found = [m.content for m in messages if m.role == role and not m.content.isspace()]
    return found[0] if len(found) == 1 else "\n\n".join(filter(None, found))


def _empty_turns(row: Row) -> int:
    return sum([not m.said or m.said.isspace() for m in row.messages if m.role in ("user", "assistant")])


def _tidy(text: str, whitespace: Whitespace) -> str:
    if whitespace.collapse:
        return " ".join(text.split())
    if not whitespace.strip:
        return text
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" in text:
        text = "\n".join([line.rstrip() for line in text.split("\n")])
    return text.rstrip()


def _is_json(text: str) -> bool:
    """Tell a JSON object or array from prose; a bare number or word is prose."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
