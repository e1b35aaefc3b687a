"""Promote: every export that passed verification becomes a version in MLflow's registry, with the gate's verdict on it.

Not a cached stage: who is the champion is no fact of the files, so the registry is looked at every time. The stage's
record says `cached` when the registry already held all of it.

    verdict        version    challenger    champion
    PROMOTE        yes        yes           at once with `when: verdict`, else by `tunemill promote`
    CANNOT_TELL    yes        yes           by `tunemill promote`: a person may know what the rows do not show
    REJECT         yes        no            never; the version stands so that it can be looked at
    INVALID        yes        no            never

A run makes a version the champion at most once: repeated after a rollback, it does not undo the rollback.
"""

import functools
import time
from typing import Any

from tasks.killed import records
from tasks.publish import SHOWN
from tasks.run import Run, StageRecord
from tasks.stage import Retries, retried
from tasks.version_page import Evidence, page, read
from tunemill import faults, shipped_model
from tunemill.artifacts import Decision, Exported
from tunemill.home import Home
from tunemill.registry import CHAMPION, MADE_FROM, SINCE, VERDICT, PromoteSettings, Registry, Version
from tunemill.store import Store
from tunemill.tracking import RUN_TAG

SETTLED = "tunemill.gate"
"""Key of the decision by which a version was placed; set last, so that a placing that was killed is done again."""


def promote(exported: Exported, decision: Decision, settings: PromoteSettings) -> StageRecord | None:
    """Register the export with its verdict and place its aliases; None where nothing is to be, or could be, registered.

    MLflow being down fails a run only with `when: verdict`, which asked for more than a registration.

    Raises:
        GateNotPassed: somebody else moved the champion while this run was about to.
    """
    if settings.when == "never":
        return None
    run, begun = Run.current(), time.monotonic()
    evidence = read(Store.at(Home.find().store), exported, decision)
    run.began("promote", False)
    placed = _placed(run, evidence, settings)
    if placed is None:
        return None
    record = StageRecord(
        name="promote",
        key=decision.key,
        digest=exported.digest,
        cached=not placed[1],
        seconds=round(time.monotonic() - begun, 3),
        counts={"version": placed[0]},
    )
    run.ended(record)
    return record


def _placed(run: Run, evidence: Evidence, settings: PromoteSettings) -> tuple[int, bool] | None:
    task = _prefect_task() if run.prefect_flow_run else place
    if settings.when == "verdict":
        return task(evidence, settings)
    with run.unless_down("did not register this version"):
        return task(evidence, settings)
    return None


def place(evidence: Evidence, settings: PromoteSettings) -> tuple[int, bool]:
    """Find or make the version and give it its aliases; return its number and whether anything was changed."""
    faults.point("promote.begin")
    run, registry = Run.current(), Registry(Home.find())
    name, digest, decided = run.config["name"], evidence.chain["export"].digest, evidence.chain["gate"].key
    version = registry.find(name, digest)
    if version and version.tags.get(SETTLED) == decided:
        return version.number, False
    tags = _tags(run, evidence)
    if version is None:
        run_id = _source_run(run, evidence.chain["evaluate"].key)
        version = registry.register(name, digest, run_id, lambda: _log(registry, run_id, evidence), tags)
        faults.point("promote.registered")
    else:
        shipped_model.attach(registry.client, registry.home, version.model_id, evidence.files)
    shipped_model.scores(
        registry.client, version.run_id, version.model_id, evidence.scores, "test", evidence.test_digest
    )
    registry.describe(version, page(name, run, evidence, _links(registry, version)), tags)
    _aliases(registry, version, evidence.verdict.verdict, settings, run)
    registry.tag(version, SETTLED, decided)
    if run.mlflow_status == "RUNNING":
        run.close_tracking("FINISHED")
    return version.number, True


def _aliases(registry: Registry, version: Version, verdict: str, settings: PromoteSettings, run: Run) -> None:
    champion = registry.holder(version.name, CHAMPION)
    if verdict in ("REJECT", "INVALID"):
        registry.withdraw(version)
        if champion == version.number:
            run.warn(
                f"{version} is the champion and the gate now says {verdict}; "
                f"`tunemill rollback {version.name}` puts the one before it back"
            )
    elif settings.when == "verdict" and verdict == "PROMOTE" and SINCE not in version.tags:
        registry.crown(version, champion, f"run {run.id}", "promote.when is verdict, and the gate says PROMOTE")
    elif champion != version.number:
        registry.challenge(version)


def _log(registry: Registry, run_id: str, evidence: Evidence) -> str:
    """Log the files as a model whose parameters are the settings of every stage that made them."""
    parameters = {
        stage: {
            name: value for section in manifest.parts.get("section", {}).values() for name, value in section.items()
        }
        for stage, manifest in evidence.chain.items()
    }
    tags = {f"tunemill.{stage}": manifest.key for stage, manifest in evidence.chain.items()}
    name = f"export-{evidence.chain['export'].digest[:SHOWN]}"
    return shipped_model.log(registry.client, registry.home, run_id, name, evidence.files, parameters, tags)


def _tags(run: Run, evidence: Evidence) -> dict[str, str]:
    """Give few tags, the verdict first: MLflow's list of versions shows them all in a narrow column."""
    origins = " ".join(f"{stage}/{manifest.key}" for stage, manifest in reversed(evidence.chain.items()))
    flow = {"prefect.flow_run": run.prefect_flow_run} if run.prefect_flow_run else {}
    return {VERDICT: evidence.verdict.verdict, RUN_TAG: run.id, MADE_FROM: origins, **flow}


def _links(registry: Registry, version: Version) -> dict[str, str]:
    experiment = f"#/experiments/{registry.client.get_run(version.run_id).info.experiment_id}"
    model = f"{experiment}/models/{version.model_id}"
    run = f"{experiment}/runs/{version.run_id}"
    return {
        "scores and parameters": model,
        "files": f"{model}/artifacts",
        "run with its datasets": run,
        "report": f"{run}/artifacts/evaluate/report.md",
    }


def _source_run(run: Run, evaluation: str) -> str:
    """Give the MLflow run that was told of this evaluation: this run's, or that of the earlier run which made it."""
    if run.mlflow_run:
        return run.mlflow_run
    for _, record in records(Home.find()):
        if record.get("mlflow_status") == "FINISHED" and any(stage["key"] == evaluation for stage in record["stages"]):
            return str(record["mlflow_run"])
    if tracking := run.tracking(now=True):
        return tracking.run_id
    raise ConnectionError(run.warnings[-1])


@functools.cache
def _prefect_task() -> Any:
    from prefect import task
    from prefect.cache_policies import NO_CACHE
    from prefect.tasks import exponential_backoff

    retries = Retries()
    return task(
        name="promote",
        task_run_name="promote",
        retries=retries.times,
        retry_delay_seconds=exponential_backoff(retries.first_delay),
        retry_jitter_factor=0.5,
        retry_condition_fn=retried,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(place)
