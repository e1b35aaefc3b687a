"""History: find what a night depends on beside its files, by what the files hold and never by the clock."""

from collections.abc import Mapping
from typing import Any

import orjson

from tasks.deduplicate import SOURCES as TABLES
from tasks.deduplicate import deduplicate, known_tables, tables
from tunemill.artifacts import Artifact, CleanDataset, SourceFiles, Splits, ValidDataset
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.errors import ArtifactDamaged, StoreError
from tunemill.home import Home
from tunemill.splits.ledger import segment
from tunemill.splits.settings import SplitSettings
from tunemill.store import Manifest, Store, Work

SOURCES = "history/sources.json"
"""Under report/: digests of the source files, which the rows alone do not tell; it counts for no digest."""
FIRST = f"ledger/{segment(0)}"


def previous_splits(store: Store, files: SourceFiles, asked: Mapping[str, Any] | None = None) -> Splits | None:
    """Find the split whose source files are the largest strict subset of `files`; None where none is.

    The same files find the same split again, so that a night that is run again finds its own folder. Of several splits
    of the same files the one is taken whose settings differ least from those `asked`, then the one that knows most
    rows, then the smallest digest.

    Raises:
        StoreError: its bytes are not those that were sealed; without it rows that were tested may train.
    """
    tonight = {file.sha256 for file in files.files}
    nights = [(m, known) for m in store.manifests(Splits.stage) if (known := sources(store, m)) and known < tonight]
    if not nights:
        return None
    last, _ = min(nights, key=lambda night: (-len(night[1]), *_rank(night[0], asked or {})))
    return _whole(store, last)


def earlier_splits(files: SourceFiles, settings: SplitSettings, before: str | None = None) -> Splits | None:
    """Find the `previous` of tonight's files in this home's store, for the flow and for the plan.

    Args:
        before: key of the split of the night before, as that night's record says. It is gone on from where some of its
            files are no longer among tonight's, as where logs are rotated away: no subset of tonight's could tell
            which rows it tested.

    Raises:
        StoreError: its bytes are not those that were sealed, or the store no longer holds it.
    """
    store = Store.at(Home.find().store)
    if before is None:
        return previous_splits(store, files, settings.decisions())
    manifest = store.manifest(Splits.stage, before)
    if manifest is None:
        raise StoreError(
            f"{store.folder(Splits.stage, before)} is gone, and it says which rows the night before tested: without it "
            "they would train\n  Put the folder back, or remove the records of the nights to begin anew."
        )
    if sources(store, manifest) <= {file.sha256 for file in files.files}:
        return previous_splits(store, files, settings.decisions())
    return _whole(store, manifest)


def _whole(store: Store, manifest: Manifest) -> Splits:
    """Give the split, whose bytes are checked: they decide what may train."""
    try:
        store.check(manifest.stage, manifest.key)
    except ArtifactDamaged as damage:
        raise StoreError(
            f"{damage.folder}/{damage.file} is damaged, and it says which rows earlier nights tested: without it they "
            f"would train\n  Put the file back, or remove {damage.folder} to go on from the night before it."
        ) from damage
    return manifest.artifact(Splits)


def earlier_clean(valid: ValidDataset, settings: DeduplicateSettings) -> CleanDataset | None:
    """Find the clean dataset that tonight's can be grown from, in this home's store; for the flow and for the plan."""
    return previous_clean(Store.at(Home.find().store), valid, settings)


def previous_clean(store: Store, valid: ValidDataset, settings: DeduplicateSettings) -> CleanDataset | None:
    """Find the clean dataset, made as tonight's, whose tables of rows are the largest strict subset of tonight's.

    The same rows find the same one again. A table that is gone tonight, or holds other rows, leads to another or to
    None: what comes out is always what one batch of tonight's rows would give.
    """
    tonight = tables(store.manifest(valid.stage, valid.key)).items()
    made = {"version": deduplicate.version, "section": {"settings": settings.decisions()}}
    nights = [
        (m, held)
        for m in store.manifests(CleanDataset.stage)
        if {name: m.parts.get(name) for name in made} == made
        and (store.folder(m.stage, m.key) / TABLES).is_file()
        and (held := known_tables(store.folder(m.stage, m.key)).items()) < tonight
    ]
    return (
        min(nights, key=lambda night: (-len(night[1]), night[0].digest))[0].artifact(CleanDataset) if nights else None
    )


def sources(store: Store, manifest: Manifest) -> frozenset[str]:
    """Give the digests of the files that a split was made from; none where it keeps no ledger or does not know them."""
    path = store.folder(manifest.stage, manifest.key) / "report" / SOURCES
    if FIRST not in manifest.files or not path.is_file():
        return frozenset()
    return frozenset(orjson.loads(path.read_bytes()))


def note_files(work: Work, files: SourceFiles) -> None:
    """Write down the digests of the files that an artifact is made from."""
    _write(work, sorted({file.sha256 for file in files.files}))


def pass_on(work: Work, made_from: Artifact) -> None:
    """Write down the digests of the files that an artifact comes from, as its ancestors noted them."""
    noted: set[str] = set()
    waiting = [(made_from.stage, made_from.key)]
    while waiting:
        stage, key = waiting.pop()
        path = work.store.folder(stage, key) / "report" / SOURCES
        if path.is_file():
            noted.update(orjson.loads(path.read_bytes()))
        elif manifest := work.store.manifest(stage, key):
            waiting += [(name, inner) for name, inner in (origin.split("/") for origin in manifest.made_from.values())]
    if noted:
        _write(work, sorted(noted))


def _write(work: Work, digests: list[str]) -> None:
    path = work.report / SOURCES
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(digests))


def _rank(manifest: Manifest, asked: Mapping[str, Any]) -> tuple[int, int, str]:
    held = manifest.parts.get("section", {}).get("settings", {})
    differs = sum(held.get(name) != value for name, value in asked.items())
    return differs, -manifest.counts.get("ledger", 0), manifest.digest
