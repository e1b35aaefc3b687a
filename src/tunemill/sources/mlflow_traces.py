"""Take production traces out of MLflow: one JSONL file a day, named by what it holds, so that a night can be run again.

A trace becomes an exchange (where its inputs hold `messages`) or its inputs with `prompt` and `completion`. What a
person expected takes the place of the answer; else a thumb goes with it, and one thumb down weighs more than any up.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from pydantic import Field

from tunemill import tracking
from tunemill.errors import DataError
from tunemill.files import replace
from tunemill.home import Home
from tunemill.section import Section
from tunemill.sources import feedback
from tunemill.sources.where import Where

if TYPE_CHECKING:
    from mlflow.entities import Trace

Name = Annotated[str, Field(min_length=1)]
SESSION, USER, TRACE_NAME = "mlflow.trace.session", "mlflow.trace.user", "mlflow.traceName"
PAGE = 100
"""Traces asked for at a time; MLflow's default."""
FAILED: dict[str, Any] = {"request": {}, "response": None}
LOST = "MLflow knows the trace and does not give its spans"


class TraceSettings(Section):
    """Which traces of an MLflow server are read as records of a log."""

    experiment: Name
    """Name of the experiment that production traces go to; keep traces of evaluations in another."""
    tracking_uri: Name | None = None
    """Address of that MLflow; else the one that this pipeline tells its runs."""
    filter: Name | None = None
    """MLflow's own filter, such as `tag.channel = 'web'`, beside the times of `ingest.where`."""
    feedback: Name = "thumbs_up"
    """Name of the feedback that says whether a person liked the answer."""
    expectation: Name = "expected_response"
    """Name of the expectation that holds the answer that a person would have given."""


def snapshot(settings: TraceSettings, where: Where | None, home: Home) -> list[Path]:
    """Write the finished traces to one file for each UTC day, and give the files; a day that did not change keeps its.

    Raises:
        DataError: there is no such experiment, MLflow does not answer, or it does not take the filter.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = dict(_records(settings, where, home))
    except MlflowException as error:
        raise DataError(
            f"ingest.traces: MLflow at {_address(settings, home)} does not give the traces of `{settings.experiment}`: "
            f"{tracking.reason(error)}\n  Start it or mend ingest.traces, and run again; nothing was read."
        ) from error
    days: dict[str, list[bytes]] = defaultdict(list)
    for (started, _), data in sorted(found.items()):
        days[f"{datetime.fromtimestamp(started / 1000, UTC):%Y-%m-%d}"].append(data + b"\n")
    folder = home.root / "traces"
    folder.mkdir(parents=True, exist_ok=True)
    return [_written(folder, day, b"".join(data)) for day, data in days.items()]


def record(trace: "Trace", settings: TraceSettings) -> dict[str, Any]:
    """Give one trace as a record that the shapes and the map can read; times and ids stand at its top."""
    info = trace.info
    asked, said = _value(trace.data.request), _value(trace.data.response)
    known = {
        "trace_id": info.trace_id,
        "time": _time(trace),
        "conversation": info.trace_metadata.get(SESSION),
        "user": info.trace_metadata.get(USER),
        "workload": info.tags.get(TRACE_NAME),
    }
    expected = _expected(trace, settings.expectation)
    if expected is not None:
        made = _exchange(asked, expected)
    elif str(info.state) == "ERROR":
        made = {**FAILED, "error": "the trace ended in state ERROR"}
    else:
        made = _exchange(asked, said)
        known["thumbs_up"] = _thumb(trace, settings.feedback)
    return {**made, **{key: value for key, value in known.items() if value is not None}}


def _exchange(asked: Any, said: Any) -> dict[str, Any]:
    if isinstance(asked, dict) and isinstance(asked.get("messages"), list):
        if isinstance(said, dict) and "choices" in said:
            return {"request": asked, "response": said}
        message = (
            said
            if isinstance(said, dict) and not {"content", "tool_calls"}.isdisjoint(said)
            else {"role": "assistant", "content": said}
        )
        return {"request": asked, "response": {"choices": [{"message": message}]}}
    inputs = asked if isinstance(asked, dict) else {}
    prompt = _only_text(asked)
    return {**inputs, **({} if prompt is None else {"prompt": prompt}), "completion": _only_text(said) or said}


def _only_text(value: Any) -> str | None:
    """Give a text, or the one text of an object that holds no other; None where there is no or more than one."""
    texts = [v for v in value.values() if isinstance(v, str)] if isinstance(value, dict) else [value]
    return texts[0] if len(texts) == 1 and isinstance(texts[0], str) else None


def _value(written: str | None) -> Any:
    try:
        return orjson.loads(written or "null")
    except orjson.JSONDecodeError:
        return written


def _expected(trace: "Trace", name: str) -> Any:
    """Give the newest expectation of that name."""
    found = [(a.last_update_time_ms or 0, a.expectation.value) for a in _valid(trace, name) if a.expectation]
    return max(found, key=lambda one: one[0])[1] if found else None


def _thumb(trace: "Trace", name: str) -> Any:
    """Give False where anybody disliked the answer, else True, else what was said and is no thumb."""
    said = [a.feedback.value for a in _valid(trace, name) if a.feedback]
    thumbs = {feedback.thumb(value) for value in said} - {None}
    return False not in thumbs if thumbs else next(iter(said), None)


def _valid(trace: "Trace", name: str) -> list[Any]:
    """Give the assessments of that name that no later one took the place of."""
    return [a for a in trace.info.assessments if a.name == name and a.valid is not False]


def _written(folder: Path, day: str, data: bytes) -> Path:
    path = folder / f"{day}.{hashlib.sha256(data).hexdigest()[:12]}.jsonl"
    if not path.exists():
        replace(path, data)
    return path


def _records(settings: TraceSettings, where: Where | None, home: Home) -> Iterator[tuple[tuple[int, str], bytes]]:
    """Give each finished trace as JSON by its time and id; one whose spans MLflow has lost is a failed request."""
    from mlflow import MlflowClient

    client = tracking.connect(home)
    client = MlflowClient(settings.tracking_uri) if settings.tracking_uri else client
    experiment = client.get_experiment_by_name(settings.experiment)
    if experiment is None:
        raise DataError(
            f"ingest.traces: MLflow at {_address(settings, home)} has no experiment `{settings.experiment}`\n"
            "  Mend ingest.traces.experiment, or name the server in ingest.traces.tracking_uri."
        )
    asked = {
        "locations": [experiment.experiment_id],
        "filter_string": " AND ".join(_filters(settings, where)) or None,
        "max_results": PAGE,
    }
    for trace in _pages(client, include_spans=False, **asked):  # first, so that none that ends meanwhile comes twice
        lost = {**FAILED, "error": LOST, "trace_id": trace.info.trace_id, "time": _time(trace)}
        yield _place(trace), orjson.dumps(lost)
    for trace in _pages(client, **asked):
        yield _place(trace), orjson.dumps(record(trace, settings), option=orjson.OPT_NON_STR_KEYS)


def _pages(client: Any, **asked: Any) -> Iterator["Trace"]:
    token = None
    while True:
        page = client.search_traces(page_token=token, **asked)
        yield from (trace for trace in page if str(trace.info.state) != "IN_PROGRESS")
        token = page.token
        if not token:
            return


def _place(trace: "Trace") -> tuple[int, str]:
    return trace.info.request_time, trace.info.trace_id


def _time(trace: "Trace") -> str:
    return datetime.fromtimestamp(trace.info.request_time / 1000, UTC).isoformat(timespec="milliseconds")


def _filters(settings: TraceSettings, where: Where | None) -> Iterator[str]:
    if settings.filter:
        yield settings.filter
    for moment, sign in ((where and where.since, ">="), (where and where.before, "<")):
        if moment:
            yield f"trace.timestamp_ms {sign} {int(datetime.fromisoformat(moment).timestamp() * 1000)}"


def _address(settings: TraceSettings, home: Home) -> str:
    return re.sub(r"//[^/@]*@", "//", settings.tracking_uri or home.tracking_uri)
