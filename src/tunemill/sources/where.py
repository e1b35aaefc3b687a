"""Choose records of a log by time, model, workload, feedback, finish reason and error; the others are passed over."""

import fnmatch
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from tunemill.section import Section

PassedReason = Literal[
    "too early",
    "too late",
    "no time",
    "other model",
    "no model",
    "other workload",
    "no workload",
    "other feedback",
    "other finish reason",
    "no finish reason",
    "failed request",
]
Thumb = Literal["up", "down", "none"]


class PassOver(Exception):
    """Leave out a record with which nothing is wrong."""

    def __init__(self, reason: PassedReason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Facts(NamedTuple):
    """What the filters look at; None where the record does not say."""

    time: str | None
    model: Any
    workload: Any
    liked: bool | None
    finish_reason: Any
    error: str


def _written(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value  # YAML reads a bare date as one


def _moment(text: str) -> str:
    if (moment := _read(text)) is None:
        raise ValueError("no time; write ISO 8601, such as 2026-01-31 or 2026-01-31T12:00:00+02:00")
    return moment.isoformat()


def _read(text: str | None) -> datetime | None:
    """Read ISO 8601; a time without a zone is in UTC."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Moment = Annotated[str, BeforeValidator(_written), AfterValidator(_moment)]
Names = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1)], ...],
    BeforeValidator(_listed, json_schema_input_type=str | list[str]),
    Field(min_length=1),
]


class Where(Section):
    """Which records are read; each one left out is counted with its reason, and a record must meet all that is set.

    A record that does not say what a filter asks for (a chat without a time) is left out by that filter.
    """

    since: Moment | None = None
    """First time that is read: ISO 8601, in UTC where it names no zone."""
    before: Moment | None = None
    """First time that is no longer read."""
    model: Names | None = None
    """Names of the models that answered; `*` stands for anything: `meta/*`."""
    workload: Names | None = None
    """Values of `workload_id` (or `workload`); `*` stands for anything."""
    feedback: Annotated[
        tuple[Thumb, ...], BeforeValidator(_listed, json_schema_input_type=Thumb | list[Thumb]), Field(min_length=1)
    ] = get_args(Thumb)
    """What a person thought of the answer: `up`, `down`, or `none` where nobody said."""
    finish_reason: Names | None = None
    """Values of `finish_reason`, such as `stop`; without it, answers cut off or filtered are rejected."""
    error: Literal["reject", "pass_over"] = "reject"
    """What becomes of a request that failed: rejected, or passed over."""

    @model_validator(mode="after")
    def _some_time(self) -> "Where":
        since, before = _read(self.since), _read(self.before)
        if since and before and since >= before:
            raise ValueError(f"`since` {self.since} is not before `before` {self.before}; no record could be read")
        return self


class Filter:
    """Apply a `Where`, with its times and patterns worked out once."""

    def __init__(self, where: Where) -> None:
        self._where = where
        self._since, self._before = _read(where.since), _read(where.before)

    def check(self, facts: Facts) -> None:
        """Let a record through.

        Raises:
            PassOver: it does not meet one of the filters.
        """
        where = self._where
        if where.error == "pass_over" and facts.error:
            raise PassOver("failed request", facts.error)
        if self._since or self._before:
            self._check_time(facts.time)
        if where.model and not _among(facts.model, where.model):
            raise PassOver("other model" if facts.model else "no model", _shown(facts.model))
        if where.workload and not _among(facts.workload, where.workload):
            raise PassOver("other workload" if facts.workload else "no workload", _shown(facts.workload))
        if where.finish_reason and not _among(facts.finish_reason, where.finish_reason):
            known = facts.finish_reason
            raise PassOver("other finish reason" if known else "no finish reason", _shown(known))
        thumb = "none" if facts.liked is None else "up" if facts.liked else "down"
        if thumb not in where.feedback:
            raise PassOver("other feedback", thumb)

    def _check_time(self, text: str | None) -> None:
        time = _read(text)
        if time is None:
            raise PassOver("no time", _shown(text))
        if self._since and time < self._since:
            raise PassOver("too early", _shown(text))
        if self._before and time >= self._before:
            raise PassOver("too late", _shown(text))


def _among(name: Any, patterns: Iterable[str]) -> bool:
    return isinstance(name, str) and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _shown(value: Any) -> str:
    return "" if value is None else str(value)[:200]
