"""Nights: which date a night has, which files are new to it, and what was answered when it asked to be promoted.

There is no watermark. A file is new when no earlier night that came to a verdict took it, whatever the verdict was, so
a night that failed or was skipped leaves its files to the next one. Pure: what stands on disk and what time it is are
given.
"""

import datetime
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import Field, StringConstraints, ValidationError

from tunemill.artifacts import FrozenModel, SourceFile, SourceFiles, digest_of
from tunemill.errors import StoreError
from tunemill.section import PLACE, Section

SEAL = "seal"
"""Field of a record's file: the digest of all the others."""


class ApprovalSettings(Section):
    """What becomes of a night that the gate lets pass: a person decides, always."""

    hours: Annotated[float, Field(gt=0, le=24 * 90)] = 72
    """Time to answer; unanswered after that, the version is rejected by rule. Three days span a weekend."""


class HandOverSettings(Section):
    """How those who serve the model learn of a new champion; nothing of it can undo the promotion."""

    symlink: Annotated[Annotated[str, StringConstraints(min_length=1)] | None, Field(json_schema_extra=PLACE)] = None
    """Path, relative to the project, that always leads to the champion's exported folder; it is moved in one step."""
    webhook: Annotated[str, StringConstraints(pattern=r"^[A-Z_][A-Z0-9_]*$")] | None = None
    """Name of the environment variable that holds the URL to which a small JSON is posted; never the URL itself."""


class NightlySettings(Section):
    """What a night waits for, and what follows its verdict."""

    min_new_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1
    """Rows in files that no finished night took; below it the night is skipped and its files stay for the next one."""
    approval: ApprovalSettings = ApprovalSettings()
    hand_over: HandOverSettings = HandOverSettings()


class Champion(FrozenModel):
    """The version that was in use when a night began."""

    version: int
    digest: str


class Answer(FrozenModel):
    """What became of the question whether a night's version becomes champion."""

    state: Literal["waiting", "approved", "rejected", "expired", "overtaken"]
    until: datetime.datetime
    """When the question expires."""
    by: str = ""
    reason: str = ""
    at: datetime.datetime | None = None


class Night(FrozenModel):
    """One night of one product, as `nights/<name>/<date>.json` holds it."""

    name: str
    date: datetime.date
    state: Literal["open", "skipped", "judged"] = "open"
    """judged: a verdict was reached, whatever it was; only then are the files taken for good."""
    before: datetime.date | None = None
    """The finished night before this one."""
    files: tuple[SourceFile, ...] = ()
    """Everything that it is made from: what earlier finished nights took and is still there, and what is new."""
    new: tuple[str, ...] = ()
    """Digests of the files that no earlier finished night took."""
    gone: tuple[str, ...] = ()
    """Digests of files that earlier nights took and that are no longer there."""
    new_rows: int = 0
    """Rows counted in the new files; counting ends at `min_new_rows`."""
    reason: str = ""
    """Why it was skipped."""
    config: dict[str, Any] = Field(default_factory=dict)
    champion: Champion | None = None
    """None: nobody was champion, or the registry did not answer; then nobody can be replaced either."""
    flow_run: str | None = None
    """The Prefect flow run that opened it, and that a person's answer goes to."""
    run: str | None = None
    verdict: str | None = None
    keys: dict[str, str] = Field(default_factory=dict)
    """Stage → key."""
    digest: str = ""
    """What the exported files hold."""
    beside: dict[str, Any] | None = None
    """What the test rows shared with the champion show."""
    approval: Answer | None = None
    handed_over: tuple[str, ...] = ()
    """Which ways of `hand_over` were gone."""

    @property
    def source_files(self) -> SourceFiles:
        """The files as the input of a stage."""
        return SourceFiles(files=tuple(sorted(self.files, key=lambda file: file.sha256)))

    @property
    def title(self) -> str:
        """Name it to a person."""
        return f"night {self.date} of {self.name}"


class Taken(NamedTuple):
    """What a night takes."""

    files: tuple[SourceFile, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]


def date_of(now: datetime.datetime) -> datetime.date:
    """Give the date of a night that begins at a moment: that of UTC, where every day has 24 hours."""
    return now.astimezone(datetime.UTC).date()


def earlier(nights: Iterable[Night], date: datetime.date) -> list[Night]:
    """List the finished nights before a date, oldest first."""
    return sorted((n for n in nights if n.state == "judged" and n.date < date), key=lambda night: night.date)


def recorded(nights: Iterable[Night]) -> dict[str, SourceFile]:
    """Give every file that these nights took, by digest, where the latest of them found it."""
    return {file.sha256: file for night in nights for file in night.files}


def take(closed: SourceFiles, finished: Iterable[Night], standing: frozenset[str]) -> Taken:
    """Join what earlier finished nights took with what is new.

    Args:
        closed: the files that are closed tonight.
        finished: nights of earlier dates that came to a verdict.
        standing: digests of recorded files that still lie where the record says, with the same bytes.
    """
    known, here = recorded(finished), {file.sha256: file for file in closed.files}
    kept = {sha256: file for sha256, file in known.items() if sha256 in standing} | here
    files = tuple(kept[sha256] for sha256 in sorted(kept))
    return Taken(files, tuple(sorted(here.keys() - known.keys())), tuple(sorted(known.keys() - kept.keys())))


def refusal(date: datetime.date, today: datetime.date, nights: Iterable[Night]) -> str:
    """Say why a date without a record cannot be a night any more, or not yet; empty where it can.

    Only the latest date is caught up: days without a scheduler leave their files to the night after them.
    """
    if date > today:
        return f"{date} has not come yet; in UTC it is {today}"
    later = [night.date for night in nights if night.date > date and night.state == "judged"]
    if later:
        return f"the night of {min(later)} stands and took what lay there; only the latest date is caught up"
    return ""


def too_few(taken: Taken, rows: int, settings: NightlySettings, before: datetime.date | None) -> str:
    """Say why a night is skipped; empty where it has rows enough."""
    if rows >= settings.min_new_rows:
        return ""
    since = f" since the night of {before}" if before else ""
    if not taken.new:
        return f"no new file{since}"
    return (
        f"{rows:,} new rows in {len(taken.new):,} new files{since}, nightly.min_new_rows is {settings.min_new_rows:,}; "
        "the files stay for the next night"
    )


def expired(night: Night, now: datetime.datetime) -> bool:
    """Say whether a night's question was not answered in time."""
    return night.approval is not None and night.approval.state == "waiting" and night.approval.until <= now


def waits_elsewhere(night: Night, flow_run: str | None) -> bool:
    """Say whether a night's question waits for its answer in another flow run than this one."""
    return night.approval is not None and night.approval.state == "waiting" and night.flow_run != flow_run


def to_json(night: Night) -> bytes:
    """Write a record with its seal."""
    body = night.model_dump(mode="json")
    return orjson.dumps({**body, SEAL: digest_of(body)}, option=orjson.OPT_INDENT_2)


def from_json(data: bytes, where: str) -> Night:
    """Read what `to_json` wrote.

    Raises:
        StoreError: the bytes are not those that were sealed; without the record a night would take files twice.
    """
    try:
        body: Mapping[str, Any] = orjson.loads(data)
        rest = {name: value for name, value in body.items() if name != SEAL}
        if body.get(SEAL) == digest_of(rest):
            return Night.model_validate(rest)
        why = "its seal does not match"
    except (ValueError, AttributeError, ValidationError) as error:
        why = f"not a record ({type(error).__name__})"
    raise StoreError(
        f"{where}: {why}\n"
        "  It says which files that night took. Put the file back, or remove it: its files then count as new again."
    )
