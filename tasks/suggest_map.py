"""Suggest the lines of `ingest.map` for columns that Tunemill does not know, from the names that such columns have."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunemill.sources.records import KNOWN_KEYS
from tunemill.sources.shapes import SHAPES

NAMES: dict[str, tuple[str, ...]] = {
    "prompt": (
        *("prompt", "question", "query", "instruction", "utterance", "user_message", "request", "input", "message"),
        *("problem", "text", "headline", "title", "body"),
    ),
    "answer": (
        *("answer", "response", "completion", "output", "reply", "assistant_message", "target", "solution"),
        *("label", "intent", "category", "class"),
    ),
    "input": ("input", "context"),
    "system": ("system", "system_prompt"),
    "conversation": ("thread_id", "thread", "chat_id", "dialogue_id", "dialog_id", "ticket_id"),
    "user": ("customer", "client_id", "client", "account_id", "author", "email"),
    "time": ("date", "datetime", "created", "sent_at", "ts"),
}
"""What columns are called in real logs, best first; those of `KNOWN_KEYS` need no map."""
CLOSE = 0.8
"""Least similarity (`difflib`) of a name with a typing error; `qestion` has 0.93 to `question`."""


def suggest(columns: Sequence[str]) -> dict[str, str]:
    """Give field of `ingest.map` → column, each column once; fields for which no name fits are left out.

    Conversation, user and time are only given where their keys would not be found without a map, input and system only
    beside a prompt and an answer.
    """
    left, found = list(columns), dict[str, str]()
    for field, names in NAMES.items():
        if any(key in columns for key in KNOWN_KEYS.get(field, ())):
            continue
        if column := _best(names, left):
            found[field] = column
            left.remove(column)
    whole = "prompt" in found and "answer" in found
    return {field: column for field, column in found.items() if whole or field not in ("input", "system")}


def unknown_columns(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """List the keys that hold text in most records of no known shape; empty where most records have a known one."""
    seen = list(records)
    strange = [record for record in seen if not any(all(key in record for key in keys) for keys in SHAPES)]
    texts = Counter(key for record in strange for key, value in record.items() if isinstance(value, str))
    return [key for key, count in texts.items() if 2 * count >= len(strange)] if 2 * len(strange) > len(seen) else []


def line(found: Mapping[str, str]) -> str:
    """Write a suggestion as the line of YAML that belongs into the `ingest` section."""
    import yaml

    whole = {"prompt": "COLUMN", "answer": "COLUMN", **found}
    written: str = yaml.safe_dump(whole, default_flow_style=True, sort_keys=False, width=10_000)
    return f"map: {written.strip()}"


def _best(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """Take a column with such a name, else one with such a word in its name, else one that is spelled nearly so."""
    plain = {column: _plain(column) for column in columns}
    for name in names:
        if same := next((column for column in columns if plain[column] == name), None):
            return same
    for name in names:
        if part := next((column for column in columns if f"_{name}_" in f"_{plain[column]}_"), None):
            return part
    for name in names:
        if near := difflib.get_close_matches(name, [p for p in plain.values() if len(p) > 3], n=1, cutoff=CLOSE):
            return next(column for column in columns if plain[column] == near[0])
    return None


def _plain(column: str) -> str:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")
