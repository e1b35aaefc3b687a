"""Stages as tasks of a real Prefect server, each in a process of its own, since some of them are killed."""

import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.flows.processes import Process, running

pytestmark = pytest.mark.flow

SCRIPT = """
import json, sys
from pathlib import Path
from tunemill.home import Home
Home.find().enter()
from prefect import flow
from prefect.client.orchestration import get_client
from tasks.ingest import ingest
from tunemill.artifacts import SourceFile, SourceFiles
from tunemill.sources.settings import IngestSettings
from tunemill.files import hash_file

path = Path(sys.argv[1])

@flow
def only_ingest():
    given = SourceFiles(files=(SourceFile(sha256=hash_file(path), path=str(path)),))
    return ingest(given, IngestSettings(files=[str(path)]))

made = only_ingest()
with get_client(sync_client=True) as client:
    runs = sorted(client.read_task_runs(), key=lambda run: run.expected_start_time)
last = runs[-1]
print(json.dumps({"key": made.key, "rows": made.counts["rows"], "state": last.state.name, "tries": last.run_count}))
"""


def ingest(home: Path, **environment: str) -> tuple[int, dict[str, object]]:
    file = home / "rows.jsonl"
    file.write_text('{"prompt": "question", "completion": "answer"}\n')
    ended = Process(home, "ingest", "-c", SCRIPT, str(file), **environment).end()
    assert ended.status in (0, -9), ended.err
    return ended.status, json.loads(ended.out.splitlines()[-1]) if ended.out else {}


def test_a_task_that_fails_twice_passes_and_is_cached_even_without_prefects_record(tmp_path: Path) -> None:
    fault = {"TUNEMILL_FAULT": "ingest.begin:fail:2", "TUNEMILL_FAULT_COUNT": str(tmp_path / "count")}
    _, first = ingest(tmp_path, **fault)
    assert (first["state"], first["tries"], first["rows"]) == ("Completed", 3, 1)
    record = tmp_path / "store" / "ingest" / str(first["key"]) / "prefect.json"
    assert ingest(tmp_path)[1]["state"] == "Cached"
    record.unlink()
    _, again = ingest(tmp_path)
    assert (again["state"], again["key"]) == ("Cached", first["key"])


def test_a_kill_between_the_rename_and_prefects_record_leaves_what_the_next_run_holds(tmp_path: Path) -> None:
    status, _ = ingest(tmp_path, TUNEMILL_FAULT="ingest.sealed:kill")
    assert status == -9
    manifest = next((tmp_path / "store" / "ingest").glob("*/manifest.json"))
    sealed = manifest.stat().st_mtime_ns
    assert not (manifest.parent / "prefect.json").exists()
    _, after = ingest(tmp_path)
    assert after["state"] == "Cached"
    assert manifest.stat().st_mtime_ns == sealed


def test_two_runs_that_race_for_one_key_end_well_and_one_folder_stands(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "question", "completion": "answer"}\n' * 2000)
    racers = [Process(tmp_path, name, "-c", SCRIPT, str(file)) for name in ("one", "two")]
    ended = [racer.end() for racer in racers]
    assert [racer.status for racer in ended] == [0, 0], ended
    assert len(list((tmp_path / "store" / "ingest").iterdir())) == 1


def test_our_own_error_is_printed_once_without_a_traceback_and_exits_with_3(tmp_path: Path) -> None:
    words = ["-m", "tunemill.cli", "run", "pipeline_configs/quickstart.yaml", "--set", "ingest.max_rejected=0.01"]
    ended = Process(tmp_path, "run", *words).end()
    assert (ended.status, ended.out) == (3, "")
    assert "Traceback" not in ended.err
    assert ended.err.count("16 of 400 records rejected (4.0%); the limit is 1.0%") == 1


def test_a_run_that_is_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    words = ["-m", "tunemill.cli", "run", "pipeline_configs/quickstart.yaml"]
    started = Process(tmp_path, "run", *words, TUNEMILL_FAULT="ingest.sealed:kill")
    assert started.process.wait(120) == -9, started.written()
    psutil.wait_procs(running(tmp_path), timeout=10)
    assert running(tmp_path) == []


def test_ctrl_c_ends_a_run_and_its_server_within_seconds(tmp_path: Path) -> None:
    words = ["-m", "tunemill.cli", "run", "pipeline_configs/quickstart.yaml"]
    started = Process(tmp_path, "run", *words)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("store/ingest/*/manifest.json")):
        assert time.monotonic() < deadline, started.written()
        time.sleep(0.1)
    os.killpg(started.process.pid, signal.SIGINT)
    assert started.process.wait(60) == 130, started.written()
    psutil.wait_procs(running(tmp_path), timeout=10)
    assert running(tmp_path) == []
