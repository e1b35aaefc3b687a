"""Replay, one record: turn a mended line of `rejected.jsonl` into the record to write, or say why it stays out."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec
import orjson

from tasks.replay_sources import Source, text_of
from tunemill.rows import Rejected, Row
from tunemill.sources import EXCERPT, strict_json
from tunemill.sources.reasons import Fault, Reason
from tunemill.sources.records import KNOWN_KEYS

ORIGIN = "replayed_from"
"""Key of a written record that says where it came from: {source (sha256), line}. Readers pass over it."""
Keys = Mapping[str, Sequence[str]]
"""conversation, user and time → keys of a record that are read for it, best first."""
Ids = dict[str, tuple[str, Any]]
"""conversation, user and time → key and value."""
OF_READERS = frozenset(get_args(Reason))
"""Reasons of ingest; all others are those of a rule."""
OF_THE_FILE = frozenset({"unclosed quote", "broken JSON array", "broken gzip", "gzip bomb"})
"""Reasons for which all after the record was lost too, so that no mended text is the whole."""


class Listed(msgspec.Struct):
    """A line of `rejected.jsonl` as a person left it."""

    source: str
    line: int
    reason: str
    detail: str = ""
    text: str = ""
    mended: dict[str, Any] | None = None
    """The whole record as an object, in place of a mended text."""


class StaysOut(Exception):
    """Say why a listed record is not taken in, and what to do."""

    def __init__(self, reason: str, detail: str = "", mended: bool = True) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail, self.mended = reason, detail, mended


def parsed(raw: bytes) -> Listed:
    """Read a line of the list.

    Raises:
        StaysOut: it is no JSON object, or lacks what a rejected record has.
    """
    fields = strict_json.parse(raw)
    if isinstance(fields, Fault):
        raise StaysOut(f"the line is no record: {fields.reason}", fields.detail)
    try:
        return msgspec.convert(fields, Listed)
    except msgspec.ValidationError as error:
        raise StaysOut("the line is no record", str(error)) from None


def record(listed: Listed, source: Source, columns: Mapping[str, str]) -> bytes:
    """Give the mended record as one line of JSON that carries its origin.

    Args:
        columns: what `ingest.map` names, by field; an id that was left out is written under those names.

    Raises:
        StaysOut: it was not mended, is not whole, or cannot be read.
    """
    fields = dict(listed.mended) if listed.mended is not None else _from_text(listed, source)
    keys = {name: [columns[name]] if name in columns else list(guessed) for name, guessed in KNOWN_KEYS.items()}
    ids = _ids_of_text(listed, source, keys) if listed.reason in OF_READERS else _ids_of_row(listed, source, keys)
    for name, (key, value) in ids.items():
        if not any(each in fields for each in keys[name]):
            fields[key] = value
    fields[ORIGIN] = {"source": listed.source, "line": listed.line}
    return orjson.dumps(fields)


def _from_text(listed: Listed, source: Source) -> dict[str, Any]:
    by_reader = listed.reason in OF_READERS
    there = [outcome for outcome in source.at(listed.line) if isinstance(outcome, Rejected) == by_reader]
    _refuse_unmended(listed, source, there)
    if listed.reason == "invalid UTF-8" and "\ufffd" in listed.text:
        raise StaysOut(
            listed.reason, "the text still holds U+FFFD for bytes that could not be read; write what stood there"
        )
    fields = _fields(listed, source)
    if isinstance(fields, Fault):
        raise StaysOut(fields.reason, fields.detail)
    return fields


def _fields(listed: Listed, source: Source) -> dict[str, Any] | Fault:
    if listed.text.lstrip().startswith("{") or not source.is_csv:
        return strict_json.parse(listed.text.encode())
    return source.csv_fields(listed.text)


def _refuse_unmended(listed: Listed, source: Source, there: Sequence[Row | Rejected]) -> None:
    """Stop where the text is as it was, or is, or may be, less than the record.

    Args:
        there: what stands in the record's line and was, or was not, rejected by the readers, as it was.
    """
    whole = "or give the whole record as an object in `mended`"
    if listed.reason in OF_THE_FILE:
        raise StaysOut(listed.reason, "all after it in the file is lost too; mend the source file itself")
    if source.path is None:
        unseen = "its file is not where it was read, so whether the text is all of the record cannot be seen"
        raise StaysOut("source not found", f"{unseen}; put the file back, {whole}")
    if not there and source.at(listed.line):
        raise StaysOut("not rejected any more", f"{source.path.name} can be read there now; run the pipeline again")
    if not there:
        raise StaysOut("no such record", f"none begins in line {listed.line:,} of {source.path.name}")
    if any(text_of(outcome)[:EXCERPT] == listed.text for outcome in there):
        raise StaysOut(listed.reason, listed.detail, mended=False)
    if any(len(text_of(outcome)) >= EXCERPT for outcome in there):
        raise StaysOut(
            "text cut short",
            f"the list holds the first {EXCERPT:,} characters only; mend the source file itself, {whole}",
        )


def _ids_of_text(listed: Listed, source: Source, keys: Keys) -> Ids:
    """Give conversation, user and time as the text has them, for an object in `mended` that leaves them out."""
    fields = _fields(listed, source) if listed.mended is not None and source.path else {}
    found = {} if isinstance(fields, Fault) else fields
    return {name: (key, found[key]) for name, known in keys.items() for key in known[::-1] if key in found}


def _ids_of_row(listed: Listed, source: Source, keys: Keys) -> Ids:
    """Give conversation, user and time of a row that a rule rejected, which its text does not hold.

    Raises:
        StaysOut: they cannot be told, and without them the row might have kin on two sides of the split.
    """
    rows = [outcome for outcome in source.at(listed.line) if isinstance(outcome, Row)]
    if not rows:
        raise StaysOut("source not found", "so its conversation, user and time are not known; put the file back")
    held = {name: {getattr(row, name) for row in rows} for name in keys}
    if unlike := [name for name, values in held.items() if len(values) > 1]:
        raise StaysOut(
            "whose record is it",
            f"{len(rows):,} rows of line {listed.line} differ in {unlike[0]}; mend the source file itself",
        )
    first = {name: values.pop() for name, values in held.items()}
    return {name: (keys[name][0], value) for name, value in first.items() if value is not None}
