"""Publish: one MLflow run tells everything that a pipeline run sealed, and Prefect shows the report.

Lineage is read from the manifests: each names what it was made from, down to the source files' digests.
"""

import os
from typing import Any

import orjson

from tasks.ingest import file_names
from tasks.run import Run
from tasks.train import points
from tunemill import rows
from tunemill.artifacts import Evaluation
from tunemill.home import PROJECT, Home
from tunemill.store import Manifest, Store
from tunemill.tracking import Tracking


def lineage(store: Store, stage: str, key: str) -> dict[str, Manifest]:
    """Follow an artifact's keys to everything it was made from: stage → manifest."""
    manifest = store.manifest(stage, key)
    if manifest is None:
        return {}
    found = {stage: manifest}
    for origin in manifest.made_from.values():
        parent, parent_key = origin.split("/")
        if parent not in found:
            found |= {name: m for name, m in lineage(store, parent, parent_key).items() if name not in found}
    return found


def publish(evaluation: Evaluation) -> None:
    """Set the run's verdict and report; where the run made something, tell MLflow and Prefect of it."""
    run, store = Run.current(), Store(Home.find().store)
    folder = store.open(evaluation)
    summary = orjson.loads((folder / "summary.json").read_bytes())
    run.verdict = summary["verdict"]
    run.report = str(folder / "report" / "report.md")
    if not run.made:
        return
    if tracking := run.tracking():
        with run.unless_down("does not hold all of this run; run again to tell it"):
            _tell(tracking, run, store, lineage(store, "evaluate", evaluation.key), summary)
    _show_in_prefect(run)


def _tell(tracking: Tracking, run: Run, store: Store, chain: dict[str, Manifest], summary: dict[str, Any]) -> None:
    tracking.parameters(run.config)
    tracking.tags(
        {
            **{f"tunemill.{stage}": f"{manifest.key} {manifest.digest}" for stage, manifest in chain.items()},
            "tunemill.verdict": str(run.verdict),
            "mlflow.note.content": _note(run),
            **({"prefect.flow_run": run.prefect_flow_run} if run.prefect_flow_run else {}),
        }
    )
    _datasets(tracking, store, chain)
    adapter = store.folder("train", chain["train"].key)
    tracking.metrics([p for event in rows.read_lines(adapter / "report" / "events.jsonl") for p in points(event)])
    scores = {f"test/{arm}/{name}": value for arm, name, value in _values(summary)}
    tuned = {name: value for name, value in scores.items() if "/tuned/" in name}
    tracking.metrics([(name, value, 0) for name, value in scores.items() if name not in tuned])
    for stage in ("validate", "train", "evaluate"):
        tracking.folder(store.folder(stage, chain[stage].key) / "report", stage)
    split = store.folder("split", chain["split"].key) / "certificate.json"
    tracking.client.log_artifact(tracking.run_id, str(split), "split")
    keys = {stage: manifest.key for stage, manifest in chain.items()}
    tracking.model("adapter", adapter / "adapter", keys, tuned)
    tracking.finish("FINISHED")


def _datasets(tracking: Tracking, store: Store, chain: dict[str, Manifest]) -> None:
    names = file_names()
    table = rows.read(store.folder("ingest", chain["ingest"].key) / "rows.parquet")
    for source in sorted({row.source for row in table}):
        name = names.get(source, source[:12])
        tracking.dataset(name, source, PROJECT / name, "raw")
    split = chain["split"]
    for side in ("train", "validation", "test"):
        sealed = split.files[f"{side}.parquet"]
        tracking.dataset(side, sealed.sha256, store.folder("split", split.key) / f"{side}.parquet", side)


def _values(summary: dict[str, Any]) -> list[tuple[str, str, float]]:
    """List (arm, metric, value) of an evaluation's summary."""
    found = []
    for arm, result in summary["arms"].items():
        for metric, value in result["metrics"].items():
            number = value["value"] if isinstance(value, dict) else value
            found.append((arm, metric, float(number)))
    return found


def _note(run: Run) -> str:
    lines = [f"**{run.verdict}**", "", f"Pipeline run `{run.id}`; `tunemill show KEY` tells more of a stage:", ""]
    lines += [f"- {r.name} `{r.key[:12]}` {'held' if r.cached else f'made in {r.seconds:.0f} s'}" for r in run.stages]
    if run.prefect_flow_run:
        url = os.environ.get("PREFECT_UI_URL") or os.environ.get("PREFECT_API_URL", "").removesuffix("/api")
        page = f"{url}/runs/flow-run/{run.prefect_flow_run}"
        lines += ["", f"[Prefect flow run]({page})" if url else f"Prefect flow run `{run.prefect_flow_run}`"]
    return "\n".join(lines)


def _show_in_prefect(run: Run) -> None:
    from prefect.artifacts import create_link_artifact, create_markdown_artifact
    from prefect.context import get_run_context
    from prefect.exceptions import MissingContextError

    try:
        get_run_context()
    except MissingContextError:
        return
    with open(run.report or "", encoding="utf-8") as report:
        create_markdown_artifact(report.read(), key="report", description=f"{run.config['name']}: {run.verdict}")
    uri = Home.find().tracking_uri
    if uri.startswith("http") and run.mlflow_run:
        create_link_artifact(f"{uri}/#/runs/{run.mlflow_run}", key="mlflow-run", link_text="MLflow run")
