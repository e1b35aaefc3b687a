"""Publish: one MLflow run tells everything that a pipeline run sealed, and Prefect shows the report.

Lineage is read from the manifests: each names what it was made from, down to the source files' digests.
"""

import base64
import os
from collections import Counter
from pathlib import Path
from typing import Any

import orjson

from tasks.ingest import file_names
from tasks.killed import records
from tasks.run import Run
from tasks.train import points
from tunemill import rows, segments
from tunemill.artifacts import Artifact, DataPage, Decision, Evaluation, Verification
from tunemill.home import PROJECT, Home
from tunemill.store import MANIFEST, Manifest, Store
from tunemill.tracking import NOTE_TAG, Tracking, address

SHOWN = 12
"""Hex digits of a key that people are shown; `tunemill show` takes them."""


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
    """Set the run's verdict and report; tell MLflow and Prefect of what was made, or what MLflow has not been told."""
    run, home = Run.current(), Home.find()
    store = Store.at(home.store)
    folder = store.open(evaluation)
    summary = orjson.loads((folder / "summary.json").read_bytes())
    run.verdict = summary["verdict"]
    run.report = str(folder / "report" / "report.md")
    if not run.made and told(home, evaluation.key):
        return
    with run.unless_down():
        if tracking := run.tracking(now=True):
            _tell(tracking, run, store, lineage(store, "evaluate", evaluation.key), summary)
            run.close_tracking("FINISHED")
    _show_in_prefect(run)


def publish_decision(verification: Verification, decision: Decision, verdict: str) -> None:
    """Add the proof and the gate's JSON to the MLflow run that was told of the evaluation, where this run has one."""
    run, store = Run.current(), Store.at(Home.find().store)
    if not run.mlflow_run:
        return
    with run.unless_down():
        if tracking := run.tracking(now=True):
            tracking.tags({"tunemill.gate_verdict": verdict})
            for artifact in (verification, decision):
                folder = store.open(artifact)
                names = [name for name in _manifest(store, artifact).files if _for_people(name)]
                tracking.files([folder / name for name in (*names, MANIFEST)], artifact.stage)


def _manifest(store: Store, artifact: Artifact) -> Manifest:
    manifest = store.check(artifact.stage, artifact.key)
    assert manifest is not None, "an artifact that was opened has a manifest"
    return manifest


def told(home: Home, key: str) -> bool:
    """Say whether MLflow has all of a run that came to this evaluation."""
    return any(
        record.get("mlflow_status") == "FINISHED" and any(stage["key"] == key for stage in record["stages"])
        for _, record in records(home)
    )


def _tell(tracking: Tracking, run: Run, store: Store, chain: dict[str, Manifest], summary: dict[str, Any]) -> None:
    keys = {f"tunemill.{stage}": manifest.key[:SHOWN] for stage, manifest in chain.items()}
    flow = {"prefect.flow_run": run.prefect_flow_run} if run.prefect_flow_run else {}
    tracking.tags({**keys, **flow, "tunemill.verdict": str(run.verdict), NOTE_TAG: note(run, summary)})
    _datasets(tracking, store, chain)
    trained = store.folder("train", chain["train"].key)
    tracking.metrics([p for event in rows.read_lines(trained / "report" / "events.jsonl") for p in points(event)])
    for stage, manifest in chain.items():
        folder = store.folder(stage, manifest.key)
        tracking.files([folder / name for name in manifest.files if _for_people(name)] + [folder / MANIFEST], stage)
    _data_page(tracking, run, store)
    scores = {(arm, name): interval["value"] for arm, name, interval in _intervals(summary)}
    tracking.metrics([(f"test/{arm}/{name}", value, 0) for (arm, name), value in scores.items() if arm != "tuned"])
    model = _model(tracking, run, store, chain["train"])
    tuned = {f"test/{arm}/{name}": value for (arm, name), value in scores.items() if arm == "tuned"}
    tracking.scores(model, tuned, "test", chain["split"].part("test"))


def _data_page(tracking: Tracking, run: Run, store: Store) -> None:
    """Add the page of this run's data, which nothing that was trained is made from."""
    key = next((record.key for record in run.stages if record.name == DataPage.stage), None)
    if key and (manifest := store.manifest(DataPage.stage, key)):
        folder = store.folder(DataPage.stage, key)
        names = [name for name in manifest.files if _for_people(name)]
        tracking.files([folder / name for name in (*names, "page.json", MANIFEST)], DataPage.stage)


def _model(tracking: Tracking, run: Run, store: Store, trained: Manifest) -> str:
    key, settings = trained.key[:SHOWN], trained.parts["section"]["settings"]
    origins = {f"tunemill.{stage}": m.key for stage, m in lineage(store, "train", trained.key).items()}
    text = (
        f"`{settings['method']['kind']}` adapter of pipeline `{run.config['name']}`; `tunemill show {key}` tells more"
    )
    folder = store.folder("train", trained.key) / "adapter"
    return tracking.model(f"adapter-{key}", folder, {**settings, **origins}, text)


def _for_people(name: str) -> bool:
    """Take what lies in `report/` itself; the folders under it are pages that MLflow could not show."""
    return (name.startswith("report/") and name.count("/") == 1) or name in ("certificate.json", "gate.json")


def _datasets(tracking: Tracking, store: Store, chain: dict[str, Manifest]) -> None:
    names, table = file_names(), store.folder("ingest", chain["ingest"].key) / "rows"
    sources = Counter(segments.table(table, ["source"]).column("source").to_pylist())
    for source, count in sorted(sources.items()):
        place = PROJECT / names[source] if source in names else table
        tracking.dataset(names.get(source, source[:SHOWN]), source, place, "raw", count)
    split = chain["split"]
    for side in ("train", "validation", "test"):
        path = store.folder("split", split.key) / side
        tracking.dataset(side, split.part(side), path, side, split.counts[side])


def _intervals(summary: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    """List (arm, metric, interval) of an evaluation's summary, without what could not be measured."""
    arms = summary["arms"].items()
    return [(arm, m, i) for arm, result in arms for m, i in result["metrics"].items() if i["value"] is not None]


def note(run: Run, summary: dict[str, Any]) -> str:
    """Write the run's description in markdown: the verdict first, since MLflow folds all but a few lines."""
    found = {(arm, metric): interval for arm, metric, interval in _intervals(summary)}
    arms, metrics = list(summary["arms"]), list(dict.fromkeys(metric for _, metric in found))
    scores = [[metric, *(_cell(found.get((arm, metric))) for arm in arms)] for metric in metrics]
    how = [[r.name, f"`{r.key[:SHOWN]}`", "held" if r.cached else f"made in {r.seconds:.1f} s"] for r in run.stages]
    lines = [f"**{run.verdict}** by `{summary['primary']}` on {summary['rows']:,} test rows", ""]
    lines += _table(["", *(arm.replace("_", "-") for arm in arms)], scores)
    lines += ["", f"In brackets {summary['confidence']:.0%} intervals. `tunemill show KEY` tells more of a stage:", ""]
    lines += _table(["stage", "key", ""], how)
    if run.prefect_flow_run:
        url = os.environ.get("PREFECT_UI_URL") or os.environ.get("PREFECT_API_URL", "").removesuffix("/api")
        page = f"{url}/runs/flow-run/{run.prefect_flow_run}"
        lines += ["", f"[Prefect flow run]({page})" if url else f"Prefect flow run `{run.prefect_flow_run}`"]
    return "\n".join(lines)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lay out a table; MLflow leaves no room between columns, so each cell brings its own."""
    first, *others = ["| " + " &emsp; | ".join(row) + " |" for row in (head, *rows)]
    return [first, "|---" * len(head) + "|", *others]


def _cell(interval: dict[str, float] | None) -> str:
    return "" if interval is None else f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def _show_in_prefect(run: Run) -> None:
    from prefect.artifacts import create_link_artifact, create_markdown_artifact
    from prefect.context import get_run_context
    from prefect.exceptions import MissingContextError

    try:
        get_run_context()
    except MissingContextError:
        return
    report = Path(run.report or "")
    plot = base64.b64encode((report.parent / "scores.png").read_bytes()).decode()
    text = report.read_text(encoding="utf-8").replace("](scores.png)", f"](data:image/png;base64,{plot})")
    create_markdown_artifact(text, key="report", description=f"{run.config['name']}: {run.verdict}")
    uri = address(Home.find())
    if uri.startswith("http") and run.mlflow_run:
        create_link_artifact(f"{uri}/#/runs/{run.mlflow_run}", key="mlflow-run", link_text="MLflow run")
