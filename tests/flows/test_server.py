"""The deployment on a real Prefect server, as its file says: scheduled, run by a real worker, and held the second time.

One server and a worker a pool serve all tests here, each pool for one run at a time; the run tunes and evaluates the
real small model in two steps, by children in the pool of the GPU.
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

from tasks.form import configurations
from tests.flows.processes import Ended, Process, kill_all
from tunemill.home import PROJECT, Home

pytestmark = [pytest.mark.flow, pytest.mark.model]

FILE = "deployments/prefect.yaml"
ANYTHING = "{top1: 0, divergence: 10, same_text: 0, score_loss: 1, stops: 0}"
"""Two rows prove nothing of a file; here only the way through the stages is looked at."""
ASKED = {
    "config": "pipeline_configs/minimal.yaml",
    "pool": True,
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
PREPARE = ["ingest", "tokenizer", "validate", "deduplicate", "split", "page"]
TUNE = ["tokenizer", "model", "train", "evaluate"]
RELEASE = ["tokenizer", "model", "merge", "quantize", "export", "verify"]
LOOKED = ["tokenizer", "model"]
"""What a parent needs to know whether the store holds the rest."""
STAGES = list(dict.fromkeys([*PREPARE, *TUNE, *RELEASE, "gate", "promote"]))
HELD = [*PREPARE, *LOOKED, *TUNE, *LOOKED, *RELEASE, "gate", "promote"]
"""Task runs of a run that finds everything in the store."""
CHILDREN = [*TUNE, *RELEASE]
T = TypeVar("T")


def documented() -> list[list[str]]:
    """Give the commands that the head of the deployment file tells its reader to type, in order."""
    lines = (PROJECT / FILE).read_text().splitlines()
    return [shlex.split(line[1:], comments=True) for line in lines if line.startswith("#   prefect ")]


SERVER, CPU, GPU, LIMIT, DEPLOY, CPU_WORKER, GPU_WORKER, RUN, LANDED = documented()


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
    """Start a server and make the pools; a parent fills its own, so a wait in it for a child would never end."""
    prefect = Prefect(home)
    for words in (CPU, GPU, LIMIT, [word.replace("gpu-pool", "cpu-pool") for word in LIMIT]):
        prefect.command(words)
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
def worker(deployed: Prefect) -> list[Process]:
    """Start a worker a pool."""
    return [deployed.start(CPU_WORKER), deployed.start(GPU_WORKER)]


def ran(prefect: Prefect, worker: list[Process], tasks: int) -> dict[str, Any]:
    """Let the worker run the deployment to its end, and give the record of that run."""
    before = set((prefect.home / "runs").glob("*.json"))
    try:
        prefect.command(RUN, "--params", json.dumps(ASKED), "--watch", "--watch-timeout", "800", timeout=830)
    except AssertionError as error:
        raise AssertionError([each.written() for each in worker]) from error
    (new,) = set((prefect.home / "runs").glob("*.json")) - before
    record: dict[str, Any] = json.loads(new.read_text())
    wait_for(lambda: len(prefect.tasks(record)) == tasks, 30, lambda: prefect.tasks(record))
    return record


@pytest.fixture(scope="module")
def first(deployed: Prefect, worker: list[Process]) -> dict[str, Any]:
    """Run the deployment where nothing is held."""
    return ran(deployed, worker, len(HELD) + len(CHILDREN))


@pytest.fixture(scope="module")
def second(deployed: Prefect, worker: list[Process], first: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bool]]:
    """Run it again; also say of every sealed artifact whether it is as the first run left it."""
    sealed = {path: path.stat().st_mtime_ns for path in (deployed.home / "store").rglob("manifest.json")}
    record = ran(deployed, worker, len(HELD))
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
    (deployment,) = [each for each in deployed.find("deployments") if each["schedules"]]
    assert deployment["name"] == "nightly"
    assert [each["active"] for each in deployment["schedules"]] == [False]
    assert deployed.scheduled() == []


def test_each_pool_runs_one_at_a_time_as_processes(prefect: Prefect) -> None:
    pools = {(each["name"], each["type"], each["concurrency_limit"]) for each in prefect.find("work_pools")}
    assert pools == {("cpu-pool", "process", 1), ("gpu-pool", "process", 1)}


def test_nothing_that_is_deployed_names_a_folder_of_this_machine(deployed: Prefect) -> None:
    found = deployed.find("deployments")
    assert {each["name"] for each in found} == {"finetune", "gpu", "nightly"}
    assert str(PROJECT) not in json.dumps(found)


def test_the_run_form_offers_the_configurations_and_bounds_what_can_be_changed(deployed: Prefect) -> None:
    (deployment,) = [each for each in deployed.find("deployments") if each["name"] == "finetune"]
    form = deployment["parameter_openapi_schema"]
    assert form["properties"]["config"]["enum"] == configurations()
    rank = form["definitions"]["Change"]["properties"]["rank"]
    assert (rank["type"], rank["minimum"], rank["maximum"]) == ("integer", 1, 1024)
    refused = deployed.start([*RUN, "--params", json.dumps({"change": {"rank": 0}})]).end()
    assert refused.status != 0
    assert "rank" in refused.out + refused.err


def test_the_run_its_three_subflows_and_its_two_children_complete(deployed: Prefect, first: dict[str, Any]) -> None:
    assert list(deployed.flows(first).values()) == ["Completed"] * 6
    assert first["state"] == "done"


def test_all_fifteen_stages_are_made_once_in_order(first: dict[str, Any]) -> None:
    assert [stage["name"] for stage in first["stages"]] == STAGES, first["warnings"]
    made = [stage["name"] for stage in first["stages"] if not stage["cached"]]
    assert len(made) == 15
    assert made == STAGES


def test_the_task_runs_of_the_first_run_say_what_was_made(deployed: Prefect, first: dict[str, Any]) -> None:
    told = deployed.tasks(first)
    assert sorted(name for name, state in told if state == "Completed") == sorted(STAGES)
    assert [state for _, state in told].count("Cached") == len(HELD) + len(CHILDREN) - len(STAGES)


def test_train_and_release_ran_in_the_pool_of_the_gpu(deployed: Prefect, first: dict[str, Any]) -> None:
    runs = deployed.find("flow_runs", flow_runs={"id": {"any_": list(deployed.flows(first))}})
    pools = {(run["name"], run["work_pool_name"]) for run in runs if run["work_pool_name"]}
    assert pools == {
        ("minimal (14 settings)", "cpu-pool"),
        ("tune minimal", "gpu-pool"),
        ("release minimal", "gpu-pool"),
    }


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
    assert deployed.tasks(second[0]) == [(name, "Cached") for name in HELD[:-1]] + [("promote", "Completed")]


def test_a_second_run_wakes_no_worker_of_the_gpu(deployed: Prefect, second: Any) -> None:
    runs = deployed.find("flow_runs", flow_runs={"id": {"any_": list(deployed.flows(second[0]))}})
    assert [run["work_pool_name"] for run in runs if run["work_pool_name"]] == ["cpu-pool"]


def test_a_second_run_makes_nothing(first: dict[str, Any], second: Any) -> None:
    record, unchanged = second
    assert [stage["name"] for stage in record["stages"] if not stage["cached"]] == []
    assert unchanged == dict.fromkeys(["ingest-file", "validate-file", *STAGES[:-1]], True)
    assert (record["verdict"], record["gate"]) == (first["verdict"], first["gate"])


def test_a_second_run_opens_no_mlflow_run(home: Path, first: dict[str, Any], second: Any) -> None:
    assert second[0]["mlflow_run"] is None
    assert [run.info.run_id for run in mlflow_runs(home)] == [first["mlflow_run"]]
