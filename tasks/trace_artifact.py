"""Trace an artifact or a source file: the chain it was made from and what was made of it, runs, datasets and rows."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from tasks.killed import records
from tasks.plan import STAGES
from tasks.publish import lineage
from tasks.trace_names import Names
from tunemill import segments
from tunemill.home import Home
from tunemill.rows import read_lines
from tunemill.store import Manifest, Store

SIDES = ("train", "validation", "test")
ORDER = tuple(stage.name for stage in STAGES)


def of_artifact(
    store: Store, names: Names, what: str, made: Manifest, known_by: str, altered: bool = False
) -> dict[str, Any]:
    """Tell everything about an artifact; JSON-ready.

    what, stage, key, digest   as asked, and the artifact
    known_by                   place (in the store), lineage (that a file carries), sha256 (of a file), or key
    altered                    the file says that it belongs here, but no file of its size was sealed here
    chain                      what it was made from, itself last: [{stage, key, digest, counts}]
    led_to                     what was made from it: [{stage, key}]
    runs                       that made or held it, oldest first: [{run, made, state, verdict (of evaluate), gate,
                               version {name, version} or None, mlflow_run}]
    datasets                   rows by side, {train, validation, test}; before the split {rows}
    sources                    [{file, sha256, and rows as in datasets}]
    rows                       every row of its datasets: [{row_id, side (None before the split), file, line}]
    """
    chain = lineage(store, made.stage, made.key)
    linked = sorted(chain.values(), key=lambda manifest: _order(manifest.stage))
    rows = _rows(store, names, chain)
    return {
        "what": what,
        "stage": made.stage,
        "key": made.key,
        "digest": made.digest,
        "known_by": known_by,
        "altered": altered,
        "chain": [{"stage": m.stage, "key": m.key, "digest": m.digest, "counts": m.counts} for m in linked],
        "led_to": led_to(store, [made]),
        "runs": runs(made.key),
        **_counted(rows),
        "rows": [{name: value for name, value in row.items() if name != "sha256"} for row in rows],
    }


def of_source(store: Store, names: Names, what: str, digests: Sequence[str]) -> dict[str, Any]:
    """Tell which ingests read a source file, and what was made from them; JSON-ready.

    what, stage   as asked, and "source"
    files         one for each content that had this name:
                  [{file, names, sha256, read_by [{stage, key, rows, rejected}], led_to [{stage, key}]}]
    """
    files = []
    for digest in digests:
        held = [(manifest, _records(store, manifest, digest)) for manifest in store.manifests("ingest")]
        held = [(manifest, counts) for manifest, counts in held if any(counts.values())]
        read_by = [{"stage": manifest.stage, "key": manifest.key, **counts} for manifest, counts in held]
        after = led_to(store, [manifest for manifest, _ in held])
        about = {"file": names.of(digest), "names": names.every(digest), "sha256": digest}
        files.append({**about, "read_by": read_by, "led_to": after})
    return {"what": what, "stage": "source", "files": files}


def _records(store: Store, ingest: Manifest, digest: str) -> dict[str, int]:
    """Count the records of one source file in an ingest."""
    import pyarrow.compute as pc

    folder = store.folder(ingest.stage, ingest.key)
    table = segments.table(folder / "rows", ["source"], pc.field("source") == digest)
    rejected = sum(record["source"] == digest for record in read_lines(folder / "rejected.jsonl"))
    return {"rows": table.num_rows, "rejected": rejected}


def descended(store: Store, stage: str, group: Iterable[Manifest]) -> list[Manifest]:
    """List the artifacts of a stage that were made from one of a group, newest first.

    By digest: what was made from one ingest is held for another that read the same rows, and names only the first.
    """
    origins = {(manifest.stage, manifest.digest) for manifest in group}
    return [
        manifest
        for manifest in store.manifests(stage)
        if any(
            (origin.split("/")[0], manifest.parts["inputs"][n]) in origins for n, origin in manifest.made_from.items()
        )
    ]


def led_to(store: Store, group: Sequence[Manifest]) -> list[dict[str, str]]:
    """List all that was made from a group, directly or not, in the order of the stages."""
    known, found = list(group), list[Manifest]()
    for stage in ORDER:
        found += [m for m in descended(store, stage, known) if m not in known]
        known = [*group, *found]
    return [{"stage": manifest.stage, "key": manifest.key} for manifest in found]


def runs(key: str) -> list[dict[str, Any]]:
    """List the runs that made or held a key, oldest first."""
    found = []
    for _, run in records(Home.find()):
        if mine := [stage for stage in run["stages"] if stage["key"] == key and stage["name"] != "promote"]:
            told = {name: run.get(name) for name in ("state", "verdict", "gate", "mlflow_run")}
            made = any(not stage["cached"] for stage in mine)
            found.append({"run": run["id"], "made": made, **told, "version": _version(run)})
    return found[::-1]


def versions(digest: str) -> list[dict[str, Any]]:
    """List the registered versions of an export, with what the gate said of each last, by name and number."""
    found: dict[tuple[str, int], Any] = {}
    for _, run in records(Home.find()):
        registered = any(stage["name"] == "promote" and stage["digest"] == digest for stage in run["stages"])
        if registered and (version := _version(run)):
            found.setdefault((version["name"], version["version"]), run["gate"])
    return [{"name": name, "version": number, "gate": gate} for (name, number), gate in sorted(found.items())]


def _version(run: dict[str, Any]) -> dict[str, Any] | None:
    """Give the version that a run registered or found registered, as its record tells."""
    promoted = next((stage for stage in run["stages"] if stage["name"] == "promote"), None)
    return {"name": run["config"]["name"], "version": promoted["counts"]["version"]} if promoted else None


def _order(stage: str) -> int:
    return ORDER.index(stage) if stage in ORDER else len(ORDER)


def _rows(store: Store, names: Names, chain: dict[str, Manifest]) -> list[dict[str, Any]]:
    """List the rows of the last dataset in a chain: the split's, else that before it."""
    last = next((name for name in ("split", "deduplicate", "validate", "ingest") if name in chain), None)
    if last is None:
        return []
    folder = store.folder(last, chain[last].key)
    tables = {side: side for side in SIDES} if last == "split" else {None: "rows"}
    return [
        {"row_id": row["row_id"], "side": side, "file": named, "line": row["line"], "sha256": row["source"]}
        for side, file in tables.items()
        for row in segments.table(folder / file, ["row_id", "source", "line"]).to_pylist()
        for named in (names.of(row["source"]),)
    ]


def _counted(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Count rows by side, in all and for each source file."""
    sides: Sequence[str] = SIDES if any(row["side"] for row in rows) else ("rows",) if rows else ()
    counts = Counter((row["file"], row["sha256"], row["side"] or "rows") for row in rows)
    files = sorted({(file, digest) for file, digest, _ in counts})
    return {
        "datasets": {side: sum(n for (_, _, s), n in counts.items() if s == side) for side in sides},
        "sources": [
            {"file": file, "sha256": digest, **{side: counts[file, digest, side] for side in sides}}
            for file, digest in files
        ],
    }
