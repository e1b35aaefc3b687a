"""The deployment on a real Prefect server, as its file says: scheduled, run by a real worker, and held the second time.

One server and one worker serve all tests here; the run tunes and evaluates the real small model in two steps.
"""

import json
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from tests.flows.processes import Ended, Process, kill_all
from tunemill.home import PROJECT, Home

pytestmark = [pytest.mark.flow, pytest.mark.model]

FILE = "deployments/prefect.yaml"
ANYTHING = "{top1: 0, divergence: 10, same_text: 0, score_loss: 1, stops: 0}"
"""Two rows prove nothing of a file; here only the way through the stages is looked at."""
ASKED = {
    "config": "pipeline_configs/minimal.yaml",
    "overrides": [
        "train.max_steps=2",
        "train.batch_size=2",
        "train.accumulation=1",
        "train.evaluate_every=2",
        "evaluate.max_rows=2",
        "evaluate.max_new_tokens=4",
        "evaluate.few_shot.k=1",
        "evaluate.resamples=1000",
        "quantize.method=q8_0",
        "export.targets=[gguf]",
        "verify.prompts=2",
        "verify.positions=1",
        f"verify.merged={ANYTHING}",
        f"verify.gguf={ANYTHING}",
    ],
}
FLOWS = {
    "prepare": ["ingest", "tokenizer", "validate", "deduplicate", "split", "page"],
    "tune": ["tokenizer", "model", "train", "evaluate"],
    "release": ["tokenizer", "model", "merge", "quantize", "export", "verify"],
    "finetune": ["gate", "promote"],
}
STAGES = [stage for stages in FLOWS.values() for stage in stages]
T = TypeVar("T")


def documented() -> list[list[str]]:
    """Give the commands that the head of the deployment file tells its reader to type, in order."""
    lines = (PROJECT / FILE).read_text().splitlines()
    return [shlex.split(line[1:], comments=True) for line in lines if line.startswith("#   prefect ")]


SERVER, POOL, LIMIT, DEPLOY, WORKER, RUN = documented()


def wait_for(look: Callable[[], T | None], seconds: float, told: Callable[[], object]) -> T:
    """Look until there is something, or fail with what is told then."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, told()
        time.sleep(0.2)
    return found


class Prefect:
    """A Prefect server of its own, and the commands that a person gives to it."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.home, self.page, self.given = home, f"http://127.0.0.1:{port}", 0
        self.environment = {
            "PREFECT_API_URL": f"{self.page}/api",
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }
        self.server = self.start(SERVER)
        wait_for(self.healthy, 120, self.server.written)

    def start(self, words: list[str]) -> Process:
        """Give a command that goes on."""
        self.given += 1
        return Process(self.home, f"{self.given}-{words[1]}", "-m", *words, **self.environment)

    def command(self, words: list[str], *more: str, timeout: float = 120) -> Ended:
        """Give a command and wait until it ends well."""
        ended = self.start([*words, *more]).end(timeout)
        assert ended.status == 0, ended
        return ended

    def healthy(self) -> bool:
        try:
            return httpx.get(f"{self.page}/api/health").is_success
        except httpx.TransportError:
            return False

    def find(self, what: str, **filters: Any) -> list[dict[str, Any]]:
        """Ask the server for objects of a kind, as its UI does."""
        answer = httpx.post(f"{self.page}/api/{what}/filter", json=filters).raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    def flows(self, record: dict[str, Any]) -> dict[str, str]:
        """Give id → state of a pipeline run's flow run and of the subflows in it."""
        ids = {"any_": [record["prefect_flow_run"]]}
        runs = self.find("flow_runs", flow_runs={"operator": "or_", "id": ids, "parent_flow_run_id": ids})
        return {run["id"]: run["state"]["name"] for run in runs}

    def tasks(self, record: dict[str, Any]) -> list[tuple[str, str]]:
        """Give (name, state) of the task runs in all of them, in order, without those that stand for a subflow."""
        inside = {"id": {"any_": list(self.flows(record))}}
        runs = self.find("task_runs", flow_runs=inside, sort="EXPECTED_START_TIME_ASC")
        stages = [run for run in runs if not run["state"]["state_details"]["child_flow_run_id"]]
        return [(run["name"], run["state"]["name"]) for run in stages]

    def scheduled(self) -> list[dict[str, Any]]:
        return self.find("flow_runs", flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a new state folder that shares the downloaded model; what was started under it ends, whatever happens."""
    home, downloads = tmp_path_factory.mktemp("server"), Home.find().root / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    (home / "downloads").symlink_to(downloads)
    yield home
    kill_all(home)
    shutil.rmtree(home / "store", ignore_errors=True)


@pytest.fixture(scope="module")
def prefect(home: Path) -> Prefect:
    """Start a server and make the work pool."""
    prefect = Prefect(home)
    prefect.command(POOL)
    prefect.command(LIMIT)
    return prefect


@pytest.fixture(scope="module")
def nights(prefect: Prefect) -> list[dict[str, Any]]:
    """Switch the schedule on as the file says, and give the runs that the server's scheduler made of it."""
    text = (PROJECT / FILE).read_text()
    assert text.count("\n        active: false\n") == 1
    switched = prefect.home / "prefect.yaml"
    switched.write_text(text.replace("\n        active: false\n", "\n        active: true\n"))
    prefect.command([str(switched) if word == FILE else word for word in DEPLOY])
    return wait_for(prefect.scheduled, 60, prefect.server.written)


@pytest.fixture(scope="module")
def deployed(prefect: Prefect, nights: list[dict[str, Any]]) -> Prefect:
    """Deploy the file as it is, so that no night begins while a test runs."""
    prefect.command(DEPLOY)
    return prefect


@pytest.fixture(scope="module")
def worker(deployed: Prefect) -> Process:
    """Start a worker."""
    return deployed.start(WORKER)


def ran(prefect: Prefect, worker: Process) -> dict[str, Any]:
    """Let the worker run the deployment to its end, and give the record of that run."""
    before = set((prefect.home / "runs").glob("*.json"))
    try:
        prefect.command(RUN, "--params", json.dumps(ASKED), "--watch", "--watch-timeout", "400", timeout=430)
    except AssertionError as error:
        raise AssertionError(*worker.written()) from error
    (new,) = set((prefect.home / "runs").glob("*.json")) - before
    record: dict[str, Any] = json.loads(new.read_text())
    wait_for(lambda: len(prefect.tasks(record)) == len(STAGES), 30, lambda: prefect.tasks(record))
    return record


@pytest.fixture(scope="module")
def first(deployed: Prefect, worker: Process) -> dict[str, Any]:
    """Run the deployment where nothing is held."""
    return ran(deployed, worker)


@pytest.fixture(scope="module")
def second(deployed: Prefect, worker: Process, first: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bool]]:
    """Run it again; also say of every sealed artifact whether it is as the first run left it."""
    sealed = {path: path.stat().st_mtime_ns for path in (deployed.home / "store").rglob("manifest.json")}
    record = ran(deployed, worker)
    now = {path: path.stat().st_mtime_ns for path in (deployed.home / "store").rglob("manifest.json")}
    return record, {path.parent.parent.name: sealed.get(path) == now.get(path) for path in {*sealed, *now}}


def mlflow_runs(home: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))


def test_an_active_schedule_gets_runs_at_two_in_the_night(nights: list[dict[str, Any]]) -> None:
    times = sorted(run["expected_start_time"] for run in nights)
    assert len(times) >= 3
    assert {time[10:19] for time in times} == {"T02:00:00"}
    assert len({time[:10] for time in times}) == len(times)
    assert all(run["auto_scheduled"] for run in nights)


def test_the_deployed_schedule_is_off(deployed: Prefect) -> None:
    (deployment,) = deployed.find("deployments")
    assert [each["active"] for each in deployment["schedules"]] == [False]
    assert deployed.scheduled() == []


def test_the_pool_runs_one_at_a_time_as_processes(prefect: Prefect) -> None:
    (pool,) = prefect.find("work_pools")
    assert (pool["name"], pool["type"], pool["concurrency_limit"]) == ("gpu-pool", "process", 1)


def test_nothing_that_is_deployed_names_a_folder_of_this_machine(deployed: Prefect) -> None:
    (deployment,) = deployed.find("deployments")
    assert str(PROJECT) not in json.dumps(deployment)


def test_a_worker_completes_the_run_and_its_three_subflows(deployed: Prefect, first: dict[str, Any]) -> None:
    assert list(deployed.flows(first).values()) == ["Completed"] * 4
    assert first["state"] == "done"


def test_all_fifteen_stages_are_made_once_in_order(first: dict[str, Any]) -> None:
    assert [stage["name"] for stage in first["stages"]] == list(dict.fromkeys(STAGES))
    made = [stage["name"] for stage in first["stages"] if not stage["cached"]]
    assert len(made) == 15
    assert made == list(dict.fromkeys(STAGES))


def test_the_task_runs_of_the_first_run_say_what_was_made(deployed: Prefect, first: dict[str, Any]) -> None:
    told = [(name, "Cached" if name in STAGES[:place] else "Completed") for place, name in enumerate(STAGES)]
    assert deployed.tasks(first) == told


def test_mlflow_holds_the_finished_run_with_a_link_to_prefects(home: Path, deployed: Prefect, first: Any) -> None:
    (run,) = [run for run in mlflow_runs(home) if run.info.run_id == first["mlflow_run"]]
    assert run.info.status == "FINISHED"
    assert f"({deployed.page}/runs/flow-run/{first['prefect_flow_run']})" in run.data.tags["mlflow.note.content"]


def test_prefect_shows_the_report_with_the_verdict(deployed: Prefect, first: dict[str, Any]) -> None:
    inside, named = {"id": {"any_": [first["prefect_flow_run"]]}}, {"key": {"any_": ["report"]}}
    (artifact,) = deployed.find("artifacts", flow_runs=inside, artifacts=named)
    assert artifact["description"] == f"minimal: {first['verdict']}"
    assert "## Scores" in artifact["data"]


def test_prefect_shows_the_data_page_with_its_pictures_in_it(deployed: Prefect, first: dict[str, Any]) -> None:
    artifact = deployed.find("artifacts", artifacts={"key": {"any_": ["data"]}})[0]
    assert artifact["data"].startswith("# Data: ")
    assert artifact["data"].count("](data:image/png;base64,") >= 3
    assert Path(first["page"]).read_text().partition("\n")[0] == artifact["data"].partition("\n")[0]


def test_every_task_run_of_a_second_run_is_cached_but_the_look_at_the_registry(deployed: Prefect, second: Any) -> None:
    assert deployed.tasks(second[0]) == [(name, "Cached") for name in STAGES[:-1]] + [("promote", "Completed")]


def test_a_second_run_makes_nothing(first: dict[str, Any], second: Any) -> None:
    record, unchanged = second
    assert [stage["name"] for stage in record["stages"] if not stage["cached"]] == []
    assert unchanged == dict.fromkeys(STAGES[:-1], True)
    assert (record["verdict"], record["gate"]) == (first["verdict"], first["gate"])


def test_a_second_run_opens_no_mlflow_run(home: Path, first: dict[str, Any], second: Any) -> None:
    assert second[0]["mlflow_run"] is None
    assert [run.info.run_id for run in mlflow_runs(home)] == [first["mlflow_run"]]
