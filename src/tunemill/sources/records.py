"""Turn the fields of one record into a row: by its shape, or by the columns that `ingest.map` names."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tunemill.rows import Message, Row, make_row
from tunemill.sources import feedback, logs
from tunemill.sources.answer_rules import AnswerRules
from tunemill.sources.reasons import Fault, kind
from tunemill.sources.shapes import Shaped, known_keys, shaped
from tunemill.sources.streams import FileCounts
from tunemill.sources.turns import Fields, checked, joined, text_of, with_system
from tunemill.sources.where import Facts, Filter

if TYPE_CHECKING:
    from tunemill.sources.settings import ColumnMap, IngestSettings

KNOWN_KEYS = {
    "conversation": ("conversation", "conversation_id", "session_id"),
    "user": ("user", "user_id", "customer_id"),
    "time": ("time", "timestamp", "created_at"),
}
"""Keys at the top of a record that are taken without a map, the first that is present; strings or integers."""


class Converter:
    """Turn records of one file into rows; what was decided once by the settings is worked out once."""

    def __init__(self, settings: "IngestSettings", source: str, counts: FileCounts) -> None:
        self._source, self._counts, self._system = source, counts, settings.system
        self._map = settings.map
        self._reject_disliked = settings.thumbs_down == "reject"
        self._filter = Filter(settings.where) if settings.where else None
        self._rules = AnswerRules(settings.answer_rules)
        named = settings.map.columns() if settings.map else {}
        self._thumb = named.get("feedback")
        self._thumbs = tuple(key for key in feedback.KEYS if key not in named.values())
        self._named = {name: named[name] for name in KNOWN_KEYS if name in named}
        self._guessed = {name: [key for key in keys if key not in named.values()] for name, keys in KNOWN_KEYS.items()}
        ids = {*self._named.values(), *(key for keys in self._guessed.values() for key in keys)}
        self._watched = ids | {"response", "choices"}
        self._keys: tuple[str, ...] = ()
        self._present: dict[str, list[str]] = {}
        self._watched_thumbs = frozenset({*self._thumbs, *({self._thumb} if self._thumb else ())})

    def row(self, line: int, record: Fields) -> Row:
        """Build the row.

        Raises:
            PassOver: `ingest.where` leaves the record out.
            Fault: the record has no known shape, its turns cannot be trained on, or a rule rejects its answer.
        """
        mapped = bool(self._map and self._map.prompt) and not self._is_foreign(record)
        liked = None if self._watched_thumbs.isdisjoint(record) else self._liked(record, mapped)
        known = {} if self._watched.isdisjoint(record) else self._known(record, mapped)
        if self._filter:
            self._filter.check(_facts(record, known.get("time"), liked))
        made = _mapped(record, self._map) if self._map and mapped else shaped(record)
        if self._system and all(turn.role != "system" for turn in made.turns):
            made.turns.insert(0, Message("system", self._system))
        turns = checked(made.turns)
        if liked is False and self._reject_disliked:
            raise Fault("thumbs down", "a person disliked the answer; ingest.thumbs_down: keep sets such rows aside")
        self._rules.check(turns)
        self._counts.other_answers += made.others
        return make_row(turns, self._source, line, rejected=made.rejected, liked=liked, tools=made.tools, **known)

    def _is_foreign(self, record: Fields) -> bool:
        """Tell a record of a known shape that has no mapped column: one folder may hold a CSV and chats."""
        assert self._map
        mapped = {self._map.prompt, self._map.answer}
        return mapped.isdisjoint(record) and known_keys(record) is not None

    def _liked(self, record: Fields, mapped: bool) -> bool | None:
        if self._thumb and (mapped or self._thumb in record):
            value = record.get(self._thumb)
            liked = feedback.thumb(value)
            if liked is None and value not in (None, ""):
                raise Fault("wrong type", f"`{self._thumb}` is {kind(value)} that is neither up nor down")
            return liked
        liked, unread = feedback.guessed(record, self._thumbs)
        self._counts.feedback_unread += unread
        return liked

    def _known(self, record: Fields, mapped: bool) -> dict[str, str | None]:
        """Take each from its mapped column; by the guessed keys where a record read by its own shape has none such."""
        known: dict[str, str | None] = {}
        for name, column in self._named.items():
            if mapped or column in record:
                value = record.get(column)
                known[name] = _known_value(name, value)
                if known[name] is None and value not in (None, ""):
                    raise Fault("wrong type", f"`{column}` is {kind(value)} that is no {name}")
        taken = set(known)
        for name, keys in self._present_in(record).items():
            if name in taken:
                continue
            for key in keys:
                value = record[key]
                if value is None or value == "":
                    continue
                known[name] = _known_value(name, value)
                if known[name] is not None:
                    break
                self._counts.ids_passed_over += 1
        if "response" in record or "choices" in record:
            said = logs.origin(record)
            for name in ("time", "user"):
                known[name] = known.get(name) or _known_value(name, said.get(name))
        return known

    def _present_in(self, record: Fields) -> dict[str, list[str]]:
        """Give the keys to guess from that the record has, looked up anew only where its keys are not the last ones."""
        if (keys := tuple(record)) != self._keys:
            found = {name: [key for key in guessed if key in record] for name, guessed in self._guessed.items()}
            self._keys, self._present = keys, {name: some for name, some in found.items() if some}
        return self._present


def _facts(record: Fields, time: str | None, liked: bool | None) -> Facts:
    said = logs.origin(record)
    workload = record.get("workload_id", record.get("workload"))
    return Facts(time, said.get("model"), workload, liked, said.get("finish_reason"), said["error"])


def _known_value(name: str, value: Any) -> str | None:
    if isinstance(value, str):
        return value or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if name == "time":
        return _iso(value) if value >= 0 else None
    return str(value) if isinstance(value, int) else None  # an id beyond 64 bits comes as a float, digits lost


def _iso(stamp: float) -> str | None:
    """Write seconds, milli-, micro- or nanoseconds since 1970 as ISO 8601 in UTC, told apart by their size."""
    while stamp >= 1e11:  # seconds reach that in the year 5138
        stamp /= 1000
    if isinstance(stamp, int):
        hour, rest = divmod(stamp, 3_600)
        return f"{_hour(hour)}:{rest // 60:02}:{rest % 60:02}.000000+00:00"
    return datetime.fromtimestamp(stamp, UTC).isoformat(timespec="microseconds")


@lru_cache(1_000)
def _hour(number: int) -> str:
    return datetime.fromtimestamp(3_600 * number, UTC).isoformat()[:13]


def _mapped(record: Fields, columns: "ColumnMap") -> Shaped:
    assert columns.prompt and columns.answer  # the settings name both or neither
    prompt = joined(text_of(record, columns.prompt), text_of(record, columns.input, optional=True))
    turns = [Message("user", prompt), Message("assistant", text_of(record, columns.answer))]
    return Shaped(with_system(text_of(record, columns.system, optional=True), turns))
