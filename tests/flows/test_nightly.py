"""A night on a real Prefect server and worker: it suspends, is answered through the API as the UI does, and goes on.

The real small model is trained in two steps; the gate's one rule is such that it passes.
"""

import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.flows.processes import Process, kill_all
from tests.flows.test_server import (
    ASKED,
    CPU,
    CPU_WORKER,
    DEPLOY,
    GPU,
    LANDED,
    PREPARE,
    RELEASE,
    TUNE,
    Prefect,
    mlflow_runs,
    wait_for,
)
from tunemill.home import PROJECT, Home

pytestmark = [pytest.mark.flow, pytest.mark.model]

EXAMPLE = PROJECT / "examples" / "nightly"
HOOK = "TUNEMILL_TEST_HOOK"
CHEAP = {name.partition("=")[0]: name for name in ASKED["overrides"]}  # type: ignore[attr-defined]
RULE = "gate.rules=[{metric: perplexity, at_most: 1000000}]"
ROWS = "evaluate.max_rows=14"
ANSWER = {"approve": True, "name": "Ada", "reason": "read 14 answers"}


class Hook(http.server.BaseHTTPRequestHandler):
    """Take what is posted; the first time, fail."""

    heard: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012 (one hook in this file)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.heard.append((self.path, body))
        self.send_response(503 if len(self.heard) == 1 else 204)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def hook() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a-secret-path"
    server.shutdown()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home, downloads = tmp_path_factory.mktemp("nightly"), Home.find().root / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    (home / "downloads").symlink_to(downloads)
    words = [str(EXAMPLE / "generate.py"), "--nights", "1", "--out", str(home / "logs")]
    subprocess.run([sys.executable, *words], check=True, capture_output=True)
    yield home
    kill_all(home)
    shutil.rmtree(home / "store", ignore_errors=True)


@pytest.fixture(scope="module")
def prefect(home: Path, hook: str) -> Prefect:
    prefect = Prefect(home)
    prefect.environment |= {HOOK: hook}
    for words in (CPU, GPU, DEPLOY):
        prefect.command(words)
    return prefect


@pytest.fixture(scope="module")
def worker(prefect: Prefect) -> Process:
    return prefect.start(CPU_WORKER)


def started(prefect: Prefect, date: str) -> str:
    """Start the deployment for a date, and give the id of its flow run."""
    (deployment,) = [each for each in prefect.find("deployments") if each["name"] == "nightly"]
    given = {
        **CHEAP,
        "evaluate.max_rows": ROWS,
        "train.warmup_steps": "train.warmup_steps=0",
        "gate": RULE,
        "ingest": f"ingest.files={prefect.home / 'logs'}",
        "nightly": f"nightly.hand_over={{symlink: {prefect.home / 'in-use'}, webhook: {HOOK}}}",
    }
    parameters = {"date": date, "pool": False, "overrides": list(given.values())}
    made = httpx.post(
        f"{prefect.page}/api/deployments/{deployment['id']}/create_flow_run", json={"parameters": parameters}
    )
    return str(made.raise_for_status().json()["id"])


def run_of(prefect: Prefect, run: str) -> dict[str, Any]:
    (found,) = prefect.find("flow_runs", flow_runs={"id": {"any_": [run]}})
    return found


def reaches(prefect: Prefect, worker: Process, run: str, states: set[str], seconds: float = 420) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = run_of(prefect, run)
        return found if found["state"]["name"] in states or found["state_type"] == "FAILED" else None

    found = wait_for(look, seconds, lambda: (run_of(prefect, run)["state"], worker.written()))
    assert found["state"]["name"] in states, (found["state"], worker.written())
    return found


@pytest.fixture(scope="module")
def asked(prefect: Prefect, worker: Process) -> dict[str, Any]:
    """Run the night of 2 March up to its question."""
    return reaches(prefect, worker, started(prefect, "2026-03-02"), {"Suspended"})


@pytest.fixture(scope="module")
def question(prefect: Prefect, asked: dict[str, Any]) -> dict[str, Any]:
    """Give what the UI shows before a resume, and the record and processes at that moment."""
    keys = asked["state"]["state_details"]["run_input_keyset"]

    def read(key: str) -> str:
        return httpx.get(f"{prefect.page}/api/flow_runs/{asked['id']}/input/{key}").raise_for_status().text

    shown = {"schema": json.loads(read(keys["schema"])), "description": json.loads(read(keys["description"]))}
    wait_for(lambda: not engines(prefect.home), 30, lambda: engines(prefect.home))
    return {**shown, "record": record(prefect.home), "aliases": aliases(prefect.home)}


def engines(home: Path) -> list[str]:
    """List the processes of flow runs."""
    from tests.flows.processes import running

    lines = [" ".join(process.cmdline()) for process in running(home)]
    return [line for line in lines if "prefect.engine" in line or "prefect.flow_engine" in line]


def record(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "nights" / "nightly-desk" / "2026-03-02.json").read_bytes())
    return found


def aliases(home: Path) -> dict[str, Any]:
    from mlflow import MlflowClient

    found = MlflowClient(f"sqlite:///{home / 'mlflow.db'}").get_registered_model("nightly-desk").aliases
    return {name: int(number) for name, number in found.items()}


def resume(prefect: Prefect, run: str, answer: dict[str, Any]) -> dict[str, Any]:
    found = httpx.post(f"{prefect.page}/api/flow_runs/{run}/resume", json={"run_input": answer})
    told: dict[str, Any] = found.raise_for_status().json()
    return told


@pytest.fixture(scope="module")
def refused(prefect: Prefect, asked: dict[str, Any], question: Any) -> dict[str, Any]:
    """Answer without a reason."""
    return resume(prefect, asked["id"], {"approve": True, "name": "Ada"})


@pytest.fixture(scope="module")
def approved(prefect: Prefect, worker: Process, asked: dict[str, Any], refused: Any) -> dict[str, Any]:
    """Answer, and let the worker go on to the end."""
    sealed = {path: path.stat().st_mtime_ns for path in (prefect.home / "store").rglob("manifest.json")}
    assert resume(prefect, asked["id"], ANSWER)["status"] == "ACCEPT"
    run = reaches(prefect, worker, asked["id"], {"Completed"})
    now = {path: path.stat().st_mtime_ns for path in (prefect.home / "store").rglob("manifest.json")}
    return {**run, "unchanged": sealed == now}


def test_the_night_suspends_with_its_process_gone_and_its_slot_free(
    prefect: Prefect, asked: Any, question: Any
) -> None:
    assert asked["state_type"] == "PAUSED"
    assert asked["name"] == "nightly nightly 2026-03-02"
    (limit,) = [each for each in prefect.find("v2/concurrency_limits") if each["name"].startswith("deployment:")]
    assert (limit["limit"], limit["active_slots"]) == (1, 0)


def test_the_form_says_what_it_is_about_and_asks_for_a_name_and_a_reason(question: dict[str, Any]) -> None:
    assert question["schema"]["required"] == ["approve", "name", "reason"]
    assert {field["type"] for field in question["schema"]["properties"].values()} == {"boolean", "string"}
    text = question["description"]
    assert text.startswith("**nightly-desk version 1** would become champion where no version is.")
    assert "# PROMOTE: every condition holds on 14 test rows" in text
    assert "## Scores" in text


def test_until_it_is_answered_the_version_is_challenger_and_the_record_says_waiting(question: dict[str, Any]) -> None:
    assert question["aliases"] == {"challenger": 1}
    assert question["record"]["state"] == "judged"
    assert question["record"]["approval"]["state"] == "waiting"


def test_an_answer_without_a_reason_is_refused_by_the_server(refused: dict[str, Any]) -> None:
    assert refused["status"] == "REJECT"
    assert "reason" in refused["details"]["reason"]


def test_after_the_answer_every_stage_is_found_and_nothing_is_made(prefect: Prefect, approved: dict[str, Any]) -> None:
    assert approved["unchanged"]
    (inside,) = prefect.find("flow_runs", flow_runs={"parent_flow_run_id": {"any_": [approved["id"]]}})
    assert (inside["name"], inside["run_count"]) == ("finetune nightly-desk 2026-03-02", 2)
    looked_at = [*PREPARE, *TUNE, *RELEASE, "gate", "promote"]
    assert stages(prefect, inside["id"])[-len(looked_at) :] == [(name, "Cached") for name in looked_at[:-1]] + [
        ("promote", "Completed")  # the registry is looked at every time
    ]


def stages(prefect: Prefect, run: str) -> list[tuple[str, str]]:
    """Give (name, state) of the task runs in a flow run and its subflows, as they began."""
    inner = prefect.find("flow_runs", flow_runs={"parent_flow_run_id": {"any_": [run]}})
    ids = {"any_": [run, *(each["id"] for each in inner)]}
    runs = prefect.find("task_runs", flow_runs={"id": ids})
    own = [each for each in runs if not each["state"]["state_details"]["child_flow_run_id"]]
    return [(each["name"], each["state"]["name"]) for each in sorted(own, key=lambda each: str(each["start_time"]))]


def test_the_version_is_champion_with_the_name_and_the_reason(home: Path, approved: dict[str, Any]) -> None:
    from mlflow import MlflowClient

    assert aliases(home) == {"champion": 1}
    version = MlflowClient(f"sqlite:///{home / 'mlflow.db'}").get_model_version("nightly-desk", "1")
    assert (version.tags["tunemill.promoted_by"], version.tags["tunemill.reason"]) == ("Ada", "read 14 answers")
    answer = record(home)["approval"]
    assert (answer["state"], answer["by"], answer["reason"]) == ("approved", "Ada", "read 14 answers")


def test_the_champion_is_handed_over_though_the_webhook_failed_once(home: Path, approved: dict[str, Any]) -> None:
    taken = record(home)
    assert taken["handed_over"] == ["symlink", "webhook"]
    assert (home / "in-use").resolve() == home / "store" / "export" / taken["keys"]["export"]
    (_, first), (path, second) = Hook.heard
    assert first == second
    assert path == "/a-secret-path"
    assert (second["event"], second["name"], second["by"]) == ("promoted", "nightly-desk", "Ada")
    assert second["digest"] == taken["digest"]


def test_the_webhooks_url_is_written_nowhere(home: Path, approved: dict[str, Any]) -> None:
    written = [path for path in home.rglob("*") if path.is_file() and path.stat().st_size < 50_000_000]
    assert [str(path) for path in written if b"a-secret-path" in path.read_bytes()] == []


def test_the_date_again_finds_all_of_it_and_asks_nobody(prefect: Prefect, worker: Process, approved: Any) -> None:
    before = record(prefect.home)
    reaches(prefect, worker, started(prefect, "2026-03-02"), {"Completed"})
    assert record(prefect.home) == before
    assert len(mlflow_runs(prefect.home)) == 1


def test_landed_logs_start_the_night(prefect: Prefect, approved: Any) -> None:
    before = {run["id"] for run in prefect.find("flow_runs")}
    prefect.command(LANDED)

    def begun() -> list[str]:
        runs = prefect.find("flow_runs", deployments={"name": {"any_": ["nightly"]}})
        return [run["id"] for run in runs if run["id"] not in before]

    assert len(wait_for(begun, 30, prefect.server.written)) == 1
