"""What promote makes of an export and a verdict in a real MLflow registry on SQLite, and what people do afterwards."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import orjson
import pytest

from tasks.champion import promote_by_hand, rollback, shown
from tasks.promote import promote
from tasks.publish import publish
from tasks.run import StageRecord, pipeline_run
from tests.flows.processes import Process
from tests.tracking.conftest import sealed
from tunemill.artifacts import Decision, Evaluation, Exported, Verification
from tunemill.config import PipelineConfig
from tunemill.errors import ConfigError, GateNotPassed, TunemillError
from tunemill.evaluation import gate
from tunemill.evaluation.arms import ARMS
from tunemill.evaluation.gate_evidence import Facts, ShippedFile, StoredArm, StoredValue, Verified
from tunemill.evaluation.gate_settings import GateSettings
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.summary import Score
from tunemill.home import Home
from tunemill.registry import PromoteSettings, Registry
from tunemill.store import Store

pytestmark = pytest.mark.flow

GGUF = "gguf/desk-q4_k_m.gguf"
AUTOMATIC = PromoteSettings(when="verdict")
SHIPPED = {GGUF: b"GGUF" * 500, "gguf/Modelfile": b"FROM ./desk-q4_k_m.gguf", "SHA256SUMS": b"", "lineage.json": b"{}"}
Asked = Literal["PROMOTE", "REJECT", "CANNOT_TELL", "INVALID"]
Promoted = Callable[..., StageRecord | None]

END = """
import sys
from tunemill.home import PROJECT, Home
Home.find().enter()
from prefect import flow
from tasks.promote import promote
from tasks.run import pipeline_run
from tunemill.artifacts import Decision, Exported
from tunemill.config import load
from tunemill.registry import PromoteSettings

how, exported, decision = sys.argv[1:]

def end():
    with pipeline_run(load(PROJECT / "pipeline_configs" / "quickstart.yaml"), "quickstart.yaml"):
        given = Exported.model_validate_json(exported), Decision.model_validate_json(decision)
        return promote(*given, PromoteSettings(when="verdict"))

print((flow(end) if how == "flow" else end)().model_dump_json())
"""


def verified(rows: int) -> Verified:
    """Every file passed; the GGUF answered 3 of 4 rows right."""
    scores = {"exact_match": {f"row-{number}": float(number % 4 > 0) for number in range(rows)}}
    return Verified(True, (), tuple(scores["exact_match"]), (ShippedFile("q4_k_m", "q4_k_m", scores),))


@functools.cache
def decided(asked: Asked) -> tuple[bytes, bytes]:
    """Let the real gate come to a verdict; give gate.json and verification.json."""
    rows = 4 if asked == "CANNOT_TELL" else 20
    right = {"tuned": asked != "REJECT", "base": False, "few_shot": asked == "REJECT"}
    scores = [
        Score(f"row-{number}", f"row-{number}", arm, "exact_match", float(right[arm]), 1)
        for arm in ARMS
        for number in range(rows)
    ]
    facts = Facts(rows, 0.95, {arm: StoredArm({"exact_match": StoredValue(float(right[arm]))}) for arm in ARMS})
    given = None if asked == "INVALID" else verified(rows)
    verdict = gate.decide(scores, facts, given, GateSettings(), EvaluateSettings(metrics=("exact_match",)))
    assert verdict.verdict == asked
    return gate.to_json(verdict), msgspec.json.encode(verified(rows))


@pytest.fixture
def export(store: Store, evaluation: Evaluation) -> Callable[..., tuple[Exported, Decision]]:
    """Seal an export, its verification and the gate's decision on it."""

    def seal(asked: Asked = "PROMOTE", weights: bytes = SHIPPED[GGUF], anew: bool = False) -> tuple[Exported, Decision]:
        document, verification = decided(asked)
        exported = sealed(store, Exported, SHIPPED | {GGUF: weights}, {"evaluation": evaluation}, weights=len(weights))
        proof = {"verification.json": verification, "report/verify.md": b"# every file equals the adapter"}
        checked = sealed(store, Verification, proof, {"exported": exported, "evaluation": evaluation}, asked=asked)
        origins = {"evaluation": evaluation, "verification": checked}
        return exported, sealed(store, Decision, {"gate.json": document}, origins, asked=asked, anew=anew)

    return seal


@pytest.fixture
def promoted(settings: PipelineConfig, evaluation: Evaluation, export: Any) -> Promoted:
    """Run the end of a pipeline: what publish tells, then promote."""

    def run_pipeline(asked: Asked = "PROMOTE", how: PromoteSettings = AUTOMATIC, **changed: Any) -> StageRecord | None:
        with pipeline_run(settings, "pipeline_configs/quickstart.yaml") as run:
            publish(evaluation)
            record = promote(*export(asked, **changed), how)
        run_pipeline.run = run  # type: ignore[attr-defined]
        return record

    return run_pipeline


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home)


def aliases(registry: Registry) -> dict[int, tuple[str, ...]]:
    return {version.number: version.aliases for version in registry.versions("quickstart")}


def test_a_version_shows_verdict_run_datasets_scores_and_files(
    registry: Registry, promoted: Promoted, client: Any
) -> None:
    promoted()
    run = promoted.run  # type: ignore[attr-defined]
    [version] = registry.versions("quickstart")
    text = client.get_model_version("quickstart", "1").description
    assert text.startswith("PROMOTE: every condition holds on 20 test rows\n")
    cells = [[cell.strip() for cell in line.replace("&emsp;", "").split("|")[1:-1]] for line in text.splitlines()]
    assert ["test rows", "base", "few-shot", "tuned", "q4_k_m"] in cells
    assert next(line for line in cells if line[:1] == ["exact_match"])[1::3] == ["0.000 [0.000, 0.000]", "0.750"]
    assert [GGUF, "2,000"] in [line[:2] for line in cells]
    assert {"train", "validation", "test"} <= {line[0] for line in cells if line}
    assert run.id in text
    assert version.run_id == run.mlflow_run
    names = {entry.dataset.name for entry in client.get_run(version.run_id).inputs.dataset_inputs}
    assert names >= {"train", "validation", "test"}
    logged = client.get_logged_model(version.model_id)
    [metric] = logged.metrics
    assert (metric.key, metric.value, metric.dataset_name) == ("test/q4_k_m/exact_match", 0.75, "test")
    assert (logged.status, logged.source_run_id) == ("READY", run.mlflow_run)
    assert logged.params["train.epochs"] == "3.0"
    assert {"gguf", "gate", "verify", "evaluate", "train", "lineage.json"} <= {
        entry.path for entry in client.list_logged_model_artifacts(version.model_id)
    }


def test_the_weights_of_a_version_are_the_bytes_in_the_store(
    home: Home, promoted: Promoted, store: Store, export: Any
) -> None:
    promoted()
    [shown_file] = home.mlflow_artifacts.rglob(Path(GGUF).name)
    assert shown_file.samefile(store.folder("export", export()[0].key) / GGUF)


def test_promote_makes_the_champion_once_and_is_cached_when_repeated(
    registry: Registry, promoted: Promoted, client: Any
) -> None:
    first = promoted()
    before = client.get_registered_model("quickstart").last_updated_timestamp
    again = promoted()
    assert first and again
    assert (first.cached, again.cached, again.counts) == (False, True, {"version": 1})
    assert aliases(registry) == {1: ("champion",)}
    assert client.get_registered_model("quickstart").last_updated_timestamp == before


def test_by_default_a_version_waits_as_challenger(registry: Registry, promoted: Promoted) -> None:
    promoted(how=PromoteSettings())
    assert aliases(registry) == {1: ("challenger",)}


@pytest.mark.parametrize(
    ("asked", "held"), [("CANNOT_TELL", ("challenger",)), ("REJECT", ()), ("INVALID", ())], ids=lambda value: str(value)
)
def test_without_promote_a_version_stands_and_is_no_champion(
    registry: Registry, promoted: Promoted, asked: Asked, held: tuple[str, ...]
) -> None:
    promoted(asked)
    [version] = registry.versions("quickstart")
    assert (version.verdict, version.aliases) == (asked, held)


def test_with_never_nothing_is_registered(registry: Registry, promoted: Promoted) -> None:
    assert promoted(how=PromoteSettings(when="never")) is None
    assert registry.names() == []


def test_a_new_verdict_on_the_same_files_changes_the_page_and_takes_the_challenger_away(
    home: Home, registry: Registry, promoted: Promoted, client: Any
) -> None:
    promoted(how=PromoteSettings())
    promoted("REJECT", PromoteSettings())
    [version] = registry.versions("quickstart")
    assert (version.verdict, version.aliases) == ("REJECT", ())
    assert client.get_model_version("quickstart", "1").description.startswith("REJECT")
    [document] = home.mlflow_artifacts.rglob("gate.json")
    assert orjson.loads(document.read_bytes())["verdict"] == "REJECT"


def test_a_champion_that_is_rejected_later_stays_and_the_run_warns(registry: Registry, promoted: Promoted) -> None:
    promoted()
    promoted("REJECT")
    assert aliases(registry) == {1: ("champion",)}
    [warning] = promoted.run.warnings  # type: ignore[attr-defined]
    assert "quickstart version 1 is the champion and the gate now says REJECT" in warning


def test_a_run_that_is_repeated_or_judged_anew_after_a_rollback_does_not_undo_it(
    registry: Registry, promoted: Promoted
) -> None:
    promoted()
    promoted(weights=b"GGUF" * 501)
    assert rollback("quickstart", "Ada", "it rambles")["version"] == 1
    promoted(weights=b"GGUF" * 501)
    assert aliases(registry) == {1: ("champion",), 2: ()}
    promoted(weights=b"GGUF" * 501, anew=True)
    assert aliases(registry) == {1: ("champion",), 2: ("challenger",)}


def test_a_person_makes_the_challenger_champion_by_a_key_of_its_run(
    registry: Registry, promoted: Promoted, export: Any
) -> None:
    promoted("CANNOT_TELL", PromoteSettings())
    done = promote_by_hand(export("CANNOT_TELL")[0].key[:8], "Ada", "read 50 answers")
    assert (done["version"], done["before"], done["moved"]) == (1, None, True)
    assert shown(done).startswith("quickstart version 1 is champion in place of no version")
    assert aliases(registry) == {1: ("champion",)}
    again = promote_by_hand("quickstart/1", "Bob", "twice")
    assert (again["moved"], registry.versions("quickstart")[0].tags["tunemill.promoted_by"]) == (False, "Ada")


def test_a_rejected_version_is_not_made_champion_by_a_person_either(registry: Registry, promoted: Promoted) -> None:
    promoted("REJECT")
    with pytest.raises(GateNotPassed, match="the gate says REJECT"):
        promote_by_hand("quickstart/1", "Ada", "I like it")
    assert aliases(registry) == {1: ()}


def test_a_key_that_two_versions_share_is_refused_and_both_are_named(
    promoted: Promoted, evaluation: Evaluation
) -> None:
    promoted()
    promoted(weights=b"GGUF" * 501)
    with pytest.raises(ConfigError, match=r"2 versions .* quickstart/1 \(PROMOTE\), quickstart/2 \(PROMOTE\)"):
        promote_by_hand(evaluation.key, "Ada", "which?")
    with pytest.raises(ConfigError, match=r"no version .* belongs to 'ffffffff'"):
        promote_by_hand("ffffffff", "Ada", "which?")


def test_a_server_that_is_down_costs_a_warning_unless_the_champion_was_to_move(
    promoted: Promoted, home: Home, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert promoted(how=PromoteSettings()) is None
    assert "did not register this version (Connection refused)" in promoted.run.warnings[-1]  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="Max retries exceeded"):
        promoted()
    with pytest.raises(TunemillError, match=r"did not do it \(Connection refused\)"):
        promote_by_hand("quickstart/1", "Ada", "read 50 answers")


def test_a_kill_after_registering_is_mended_by_the_next_run_and_in_a_flow_a_fault_is_tried_again(
    home: Home, registry: Registry, export: Any
) -> None:
    given = [artifact.model_dump_json() for artifact in export()]
    killed = Process(home.root, "killed", "-c", END, "plain", *given, TUNEMILL_FAULT="promote.registered:kill").end()
    assert (killed.status, aliases(registry)) == (-9, {1: ()})
    patient = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "100"}
    fault = {"TUNEMILL_FAULT": "promote.begin:fail:1", "TUNEMILL_FAULT_COUNT": str(home.root / "count")}
    ended = Process(home.root, "ended", "-c", END, "flow", *given, **patient, **fault).end()
    assert ended.status == 0, ended.err
    record = orjson.loads(ended.out.splitlines()[-1])
    assert (record["name"], record["cached"], record["counts"]) == ("promote", False, {"version": 1})
    assert (home.root / "count").read_bytes() == b"."
    assert aliases(registry) == {1: ("champion",)}
