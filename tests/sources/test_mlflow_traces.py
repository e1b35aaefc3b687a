"""Traces of a real MLflow on SQLite, with feedback and expectations, become rows."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.ingest import closed_files, ingest
from tunemill import rows, segments
from tunemill.errors import DataError
from tunemill.home import Home
from tunemill.sources.settings import IngestSettings
from tunemill.store import Store

pytestmark = pytest.mark.flow
PROGRAM = Path(__file__).with_name("production.py")


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Let a program in production leave 9 traces in a database of its own."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('production') / 'mlflow.db'}"
    subprocess.run([sys.executable, str(PROGRAM), uri], check=True, capture_output=True, timeout=300)
    return uri


@pytest.fixture
def read(
    production: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, rows.Row], list[dict[str, Any]]]]:
    """Ingest them: rows by their question, and the rejected ones."""
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    Home.find().enter()

    def ingested(**more: Any) -> tuple[dict[str, rows.Row], list[dict[str, Any]]]:
        traces = {"experiment": "shop", "tracking_uri": production, **more.pop("traces", {})}
        settings = IngestSettings.model_validate({"traces": traces, "max_rejected": 0.9, **more})
        store = Store(Home.find().store)
        folder = store.open(ingest.run(store, closed_files(settings), settings))
        kept = {row.prompt[-1].content: row for row in segments.read(folder / "rows")}
        return kept, list(rows.read_lines(folder / "rejected.jsonl"))

    return ingested


def test_9_traces_are_5_rows_and_4_rejected_with_their_reasons(read: Callable[..., Any]) -> None:
    kept, rejected = read()
    assert sorted(kept) == ["Hi", "changed mind", "liked", "mended", "plain"]
    assert sorted(r["reason"] for r in rejected) == ["failed request", "no known shape", "thumbs down", "thumbs down"]


def test_an_expectation_takes_the_place_of_an_answer_that_was_disliked(read: Callable[..., Any]) -> None:
    row = read()[0]["mended"]
    assert (row.answer, row.liked) == ("as a person says it", None)


def test_a_thumb_up_and_one_that_took_the_place_of_a_thumb_down_are_likes(read: Callable[..., Any]) -> None:
    kept, _ = read()
    assert (kept["liked"].liked, kept["changed mind"].liked, kept["plain"].liked) == (True, True, None)


def test_session_user_and_time_of_a_trace_are_those_of_its_row(read: Callable[..., Any]) -> None:
    row = read()[0]["plain"]
    assert (row.conversation, row.user) == ("s5", "u1")
    assert row.time and row.time.endswith("+00:00")


def test_a_chat_completion_is_read_with_its_system_prompt(read: Callable[..., Any]) -> None:
    assert [(m.role, m.content) for m in read()[0]["Hi"].messages] == [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", "Hello"),
    ]


def test_inputs_of_2_texts_are_named_by_the_map(read: Callable[..., Any]) -> None:
    kept, rejected = read(map={"prompt": "title", "input": "body", "answer": "completion"})
    assert kept["a\n\nb"].answer == "ab"
    assert "no known shape" not in {r["reason"] for r in rejected}


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        ({"where": {"workload": "chat"}}, ["Hi"]),
        ({"where": {"model": "m1"}}, ["Hi"]),
        ({"where": {"feedback": "up"}}, ["changed mind", "liked"]),
        ({"traces": {"filter": "trace.name = 'chat'"}}, ["Hi"]),
        ({"where": {"since": "2020-01-01", "workload": "chat"}}, ["Hi"]),
    ],
)
def test_traces_are_filtered_by_mlflow_and_by_where(read: Callable[..., Any], more: Any, asked: list[str]) -> None:
    assert sorted(read(**more)[0]) == asked


def test_the_same_traces_are_the_same_file_and_a_later_thumb_makes_another(
    read: Callable[..., Any], production: str
) -> None:
    settings = IngestSettings.model_validate({"traces": {"experiment": "shop", "tracking_uri": production}})
    read()
    first, again = closed_files(settings), closed_files(settings)
    assert first == again
    (file,) = first.files
    records = [orjson.loads(line) for line in Path(file.path).read_bytes().splitlines()]
    assert len(records) == 9
    assert [r["time"] for r in records] == sorted(r["time"] for r in records)
    other = closed_files(settings.model_copy(update={"traces": settings.traces.model_copy(update={"feedback": "no"})}))  # type: ignore[union-attr]
    assert other.digest != first.digest and Path(file.path).exists()


@pytest.mark.parametrize(
    ("traces", "said"),
    [
        ({"experiment": "shopp"}, "has no experiment `shopp`"),
        ({"filter": "nonsense !"}, "does not give the traces of `shop`"),
        ({"tracking_uri": "http://user:secret@127.0.0.1:9"}, "MLflow at http://127.0.0.1:9 does not give the traces"),
    ],
)
def test_what_mlflow_does_not_give_stops_with_its_address(read: Callable[..., Any], traces: Any, said: str) -> None:
    with pytest.raises(DataError) as stopped:
        read(traces=traces)
    assert said in str(stopped.value) and "secret" not in str(stopped.value)
