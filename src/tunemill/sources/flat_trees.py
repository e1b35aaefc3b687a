"""Put conversation trees together from a file of one message a line, as OpenAssistant's flat export writes them.

The messages of a tree become one record, nested as `trees` reads it, which stands where its root stands; a message of
no tree is rejected alone. Where the file has no such message nothing is held, and the records pass as they come.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from tunemill.sources.reasons import CutShort, Fault, kind
from tunemill.sources.shapes import known_keys
from tunemill.sources.streams import FileCounts, Found

if TYPE_CHECKING:
    from tunemill.sources.settings import IngestSettings

REPLY = ("role", "from", "text", "content", "value", "rank", "deleted")
"""Keys of a reply by which a path is chosen and read; of a root all are kept, since ids and times stand there."""
ENOUGH = 8_000
"""Bytes of a message that are held beside its fields, for the case that it is rejected."""


def joined(
    found: Iterable[Found], settings: "IngestSettings", counts: FileCounts, first: int | None = None
) -> Iterator[Found]:
    """Yield every record that is no message of a tree, and each tree as one, in the order of the file.

    From the first message on the rest of the file is held, since a parent may stand after its replies.

    Args:
        counts: `joined` counts the messages beside the root of each tree, so that records + joined are all that came.
        first: read so many records and no more; where there are more, the tree of the last is left off, unfinished.
    """
    source = iter(found)
    records = islice(source, first)
    mapped = _answering(settings)
    for one in records:
        if _may_belong(one[2], mapped):
            yield from _held(chain([one], records), source if first is not None else iter(()), mapped, counts)
            return
        yield one


def is_message(fields: Any, settings: "IngestSettings") -> bool:
    """Tell whether a record is one message that names its parent, and has no shape and no mapped column of its own."""
    return _may_belong(fields, _answering(settings)) and "parent_id" in fields


def _answering(settings: "IngestSettings") -> set[str]:
    """Give the columns by which a record is read through `ingest.map`, whatever else it holds."""
    return {settings.map.prompt, settings.map.answer} - {None} if settings.map else set()  # type: ignore[return-value]


def _may_belong(fields: Any, mapped: set[str]) -> bool:
    """Tell a message of a tree; a root may lack its `parent_id`, and is one if another message answers it."""
    if not isinstance(fields, dict) or "message_id" not in fields or "role" not in fields:
        return False
    return mapped.isdisjoint(fields) and known_keys(fields) is None


def _held(found: Iterable[Found], after: Iterator[Found], mapped: set[str], counts: FileCounts) -> Iterator[Found]:
    forest, cut = _Forest(), None
    try:
        for one in found:
            forest.take(one, mapped)
        unfinished = next(after, None) is not None
    except CutShort as error:
        cut, unfinished = error, False
    records, messages = forest.records(unfinished)
    counts.joined += messages
    yield from records
    if cut:
        raise cut


class _Message(msgspec.Struct):
    """A message, and its place among the records of the file."""

    place: int
    line: int
    raw: bytes
    fields: dict[str, Any]
    parent: str | None
    replies: list["_Message"] = []


class _Forest:
    """Hold the records of a file until all of its messages are known."""

    def __init__(self) -> None:
        self._messages: dict[str, _Message] = {}
        self._others: list[tuple[int, Found]] = []
        self._place = 0
        self._last: _Message | None = None

    def take(self, found: Found, mapped: set[str]) -> None:
        """Hold one record."""
        line, raw, fields = found
        self._place += 1
        if isinstance(fields, Fault) or not _may_belong(fields, mapped):
            self._others.append((self._place, found))
            return
        try:
            name, parent = _id(fields, "message_id"), _id(fields, "parent_id")
            if name is None:
                raise Fault("wrong type", "`message_id` is empty")
            if name in self._messages:
                where = self._messages[name].line
                raise Fault("duplicate message", f"`message_id` {name} is that of line {where:,}, which is kept")
        except Fault as fault:
            self._others.append((self._place, (line, raw, fault)))
            return
        kept = fields if parent is None else {key: fields[key] for key in REPLY if key in fields}
        self._last = self._messages[name] = _Message(self._place, line, raw[:ENOUGH], kept, parent)

    def records(self, unfinished: bool) -> tuple[list[Found], int]:
        """Give trees, messages of no tree and all other records in the order of the file; count messages below roots.

        Args:
            unfinished: leave off the tree of the last message.
        """
        roots, lost = self._linked()
        below = {id(root): _below(root) for root in roots}
        if unfinished and self._last:
            roots = [root for root in roots if all(each is not self._last for each in below[id(root)])]
        placed = [*self._others, *((root.place, _record(root)) for root in roots)]
        reached = {id(each) for tree in below.values() for each in tree}
        for orphan in lost:
            detail = f"its tree hangs on `parent_id` {orphan.parent}, which is no message of this file"
            for each in _below(orphan):
                reached.add(id(each))
                placed.append((each.place, (each.line, each.raw, Fault("missing parent", detail))))
        for each in self._messages.values():
            if id(each) not in reached:
                detail = f"its parents, from {each.parent} on, lead back to themselves and to no root"
                placed.append((each.place, (each.line, each.raw, Fault("circular parents", detail))))
        placed.sort(key=lambda one: one[0])
        return [found for _, found in placed], sum(len(below[id(root)]) - 1 for root in roots)

    def _linked(self) -> tuple[list[_Message], list[_Message]]:
        """Hang every reply on its parent; give the roots, and the replies whose parent is not there."""
        roots, lost = list[_Message](), list[_Message]()
        for message in self._messages.values():
            if message.parent is None:
                roots.append(message)
            elif parent := self._messages.get(message.parent):
                parent.replies.append(message)
                parent.fields.setdefault("replies", []).append(message.fields)
            else:
                lost.append(message)
        return roots, lost


def _id(fields: dict[str, Any], key: str) -> str | None:
    value = fields.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Fault("wrong type", f"`{key}` is {kind(value)} that is no id")
    return str(value)


def _below(message: _Message) -> list[_Message]:
    """Give a message and all that hang on it, at any depth."""
    found = [message]
    for each in found:  # it grows while it is gone through
        found += each.replies
    return found


def _record(root: _Message) -> Found:
    """Nest a tree; one message alone that names no parent is no tree, and stays the record that it was."""
    if not root.replies and "parent_id" not in root.fields:
        return root.line, root.raw, root.fields
    root.fields.setdefault("replies", [])
    try:
        raw = orjson.dumps(root.fields)
    except orjson.JSONEncodeError:  # more than 254 levels
        raw = root.raw
    return root.line, raw, root.fields
