"""Trace: from a file that ships to the log lines it was made of, and from a log line to every model that saw it.

Only manifests, row tables and run records are read; nothing is made and no model is loaded.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from tasks.ingest import file_names
from tasks.plan import STAGES
from tasks.publish import lineage
from tunemill import rows
from tunemill.artifacts import Splits
from tunemill.errors import ConfigError
from tunemill.exporting.lineage import read as read_facts
from tunemill.home import PROJECT, Home
from tunemill.store import Manifest, Store

SIDES = ("train", "validation", "test")


def trace(what: str) -> dict[str, Any]:
    """Follow a file's path, an artifact's key, a row's id, or a source line written `file:line`.

    Raises:
        ConfigError: nothing in this home is known by that name.
    """
    store = Store(Home.find().store)
    if (path := PROJECT / what).is_file() or (path := Path(what).resolve()).is_file():
        return _of_artifact(store, _owner(store, path), str(path))
    if line := re.fullmatch(r"(.+):(\d+)", what):
        return _of_row(store, what, _at(store, line[1], int(line[2])))
    if re.fullmatch(r"[0-9a-f]{6,32}", what):
        found = store.find(what)
        if len(found) == 1:
            return _of_artifact(store, found[0], what)
        if not found and (seen := _named(store, what)):
            return _of_row(store, what, seen)
    raise ConfigError(
        f"trace: {what!r} is no file, no key, no row id and no `file:line` known in {store.root.parent}\n"
        "  `tunemill plan CONFIG` lists keys; rejected.jsonl and duplicates.jsonl name rows by file and line."
    )


def _owner(store: Store, path: Path) -> Manifest:
    """Find the artifact that a file belongs to: by the lineage that it carries, else by its place in the store."""
    facts = read_facts(path)
    stage, key = "export", facts.get("tunemill.key.export", "")
    if not key and path.is_relative_to(store.root):
        stage, key = path.relative_to(store.root).parts[:2]
    manifest = store.manifest(stage, key) if key else None
    if manifest is None:
        carries = f"names {stage} {key[:12]}, which is not in {store.root}" if key else "carries no lineage of Tunemill"
        raise ConfigError(f"trace: {path} {carries}; set TUNEMILL_HOME to the state folder that made it")
    return manifest


def _of_artifact(store: Store, manifest: Manifest, named: str) -> dict[str, Any]:
    chain = lineage(store, manifest.stage, manifest.key)
    found: dict[str, Any] = {
        "what": named,
        "stage": manifest.stage,
        "key": manifest.key,
        "digest": manifest.digest,
        "chain": [
            {"stage": stage.name, "key": m.key, "digest": m.digest, "counts": m.counts}
            for stage in STAGES
            if (m := chain.get(stage.name))
        ],
        "runs": _runs({m.key for m in chain.values()} if manifest.stage == "split" else {manifest.key}),
        "datasets": {},
        "sources": [],
        "rows": [],
    }
    if "split" in chain:
        names = file_names()
        found["rows"] = [
            {"row_id": row.row_id, "side": side, "file": names.get(row.source, row.source), "line": row.line}
            for side in SIDES
            for row in rows.read(store.folder("split", chain["split"].key) / f"{side}.parquet")
        ]
        found["datasets"] = dict(Counter(row["side"] for row in found["rows"]))
        counts = Counter((row["file"], row["side"]) for row in found["rows"])
        digests = {name: digest for digest, name in names.items()}
        found["sources"] = [
            {"file": file, "sha256": digests.get(file, file), **{s: counts[file, s] for s in SIDES}}
            for file in sorted({file for file, _ in counts})
        ]
    return found


def _of_row(store: Store, named: str, seen: list[dict[str, Any]]) -> dict[str, Any]:
    """Tell what became of a row in every dataset that read it, and which models were trained or tested on it."""
    ids = {place["row_id"] for place in seen if place.get("row_id")}
    names = file_names()
    dropped: list[dict[str, Any]] = []
    for manifest in store.manifests("deduplicate"):
        for line in rows.read_lines(store.folder("deduplicate", manifest.key) / "duplicates.jsonl"):
            if line["row_id"] in ids:
                kept = f"{names.get(line['kept_source'], line['kept_source'])}:{line['kept_line']}"
                dropped.append({"deduplicate": manifest.key, "kind": line["kind"], "kept": kept})
    sides = [
        {"split": manifest.key, "side": side, "models": _models(store, manifest)}
        for manifest in store.manifests(Splits.stage)
        for side in SIDES
        if ids & _ids(store.folder(Splits.stage, manifest.key) / f"{side}.parquet")
    ]
    return {"what": named, "stage": "row", "places": seen, "duplicates": dropped, "splits": sides}


def _models(store: Store, split: Manifest) -> list[dict[str, Any]]:
    """List what was made, directly or not, from the adapters that were trained on a split."""
    found = []
    for adapter in store.manifests("train"):
        if adapter.made_from.get("splits") == f"split/{split.key}":
            exports = [
                manifest.key
                for manifest in store.manifests("export")
                if manifest.made_from.get("adapter") == f"train/{adapter.key}"
            ]
            found.append({"train": adapter.key, "exports": exports, "runs": _runs({adapter.key})})
    return found


def _at(store: Store, file: str, line: int) -> list[dict[str, Any]]:
    """Find the row or the rejection at a line of a source file, named in full or by the end of its path."""
    names = file_names()
    digests = {digest for digest, name in names.items() if name == file or name.endswith(f"/{file}")}
    return [place for place in _places(store, names) if place["line"] == line and place["source"] in digests]


def _named(store: Store, row_id: str) -> list[dict[str, Any]]:
    return [place for place in _places(store, file_names()) if (place["row_id"] or "").startswith(row_id)]


def _places(store: Store, names: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield every record that any ingest read, and every row that any validation rejected."""
    for manifest in store.manifests("ingest"):
        folder = store.folder("ingest", manifest.key)
        for row in _columns(folder / "rows.parquet"):
            yield {"ingest": manifest.key, "file": names.get(row["source"], row["source"]), "rejected": None, **row}
        yield from _rejections(folder, names, "ingest", manifest.key)
    for manifest in store.manifests("validate"):
        yield from _rejections(store.folder("validate", manifest.key), names, "validate", manifest.key)


def _rejections(folder: Path, names: dict[str, str], stage: str, key: str) -> Iterator[dict[str, Any]]:
    for record in rows.read_lines(folder / "rejected.jsonl"):
        source = record["source"]
        yield {
            stage: key,
            "file": names.get(source, source),
            "rejected": record["reason"],
            "row_id": None,
            "source": source,
            "line": record["line"],
        }


def _columns(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    found: list[dict[str, Any]] = pq.read_table(path, columns=["row_id", "source", "line"]).to_pylist()
    return found


def _ids(path: Path) -> set[str]:
    return {row["row_id"] for row in _columns(path)}


def _runs(keys: set[str]) -> list[dict[str, Any]]:
    """List the runs that made or held one of the keys, oldest first."""
    found = []
    for path in sorted(Home.find().runs.glob("*.json")):
        run = orjson.loads(path.read_bytes())
        mine = [stage for stage in run["stages"] if stage["key"] in keys]
        if mine:
            made = any(not stage["cached"] for stage in mine)
            found.append({"run": run["id"], "made": made, "verdict": run["verdict"], "mlflow_run": run["mlflow_run"]})
    return found


def shown(found: dict[str, Any]) -> str:
    """Give a trace as lines of text."""
    return "\n".join(_row_lines(found) if found["stage"] == "row" else _artifact_lines(found))


def _artifact_lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['what']}\n  is {found['stage']} {found['key'][:12]}, made from"
    for link in found["chain"]:
        yield f"    {link['stage']:<12} {link['key'][:12]}  {_listed(link['counts'])}".rstrip()
    for run in found["runs"]:
        how = "made it" if run["made"] else "held it"
        yield f"  run {run['run']} {how}, verdict {run['verdict']}, MLflow run {run['mlflow_run']}"
    for source in found["sources"]:
        sides = _listed({side: source[side] for side in SIDES})
        yield f"  {source['file']}  sha256 {source['sha256'][:12]}…  {sides}"
    if found["rows"]:
        first = found["rows"][0]
        example = f"{first['row_id'][:12]} ({first['side']}) {first['file']}:{first['line']}"
        yield f"  {len(found['rows']):,} rows, e.g. {example}"
        yield "  all of them: tunemill trace … --json"


def _row_lines(found: dict[str, Any]) -> Iterator[str]:
    for place in found["places"]:
        what = f"rejected: {place['rejected']}" if place["rejected"] else f"row {place['row_id'][:12]}"
        yield f"{place['file']}:{place['line']}  {what}"
    for drop in found["duplicates"]:
        yield f"  {drop['kind']} duplicate of {drop['kept']} in {drop['deduplicate'][:12]}; it went no further"
    for side in found["splits"]:
        yield f"  {side['side']} of split {side['split'][:12]}"
        for model in side["models"]:
            how = "trained on it" if side["side"] == "train" else "never trained on it"
            exports = ", ".join(key[:12] for key in model["exports"]) or "none"
            yield f"    adapter {model['train'][:12]} {how}; exports: {exports}"


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{value:,} {name.replace('_', ' ')}" for name, value in counts.items())
