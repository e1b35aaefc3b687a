"""Trace a row: what became of a line of a source file in every dataset that read it, told in the order it happened.

A row is known by where it stands, since validate gives a row whose white space it tidied a new id.
"""

import functools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from tasks.replay_files import origins
from tasks.trace_artifact import SIDES, descended, versions
from tasks.trace_names import Names
from tunemill import rows, segments
from tunemill.errors import ConfigError, StoreError
from tunemill.quality.columns import clean
from tunemill.quality.settings import ValidateSettings
from tunemill.rows import Row
from tunemill.store import Manifest, Store

if TYPE_CHECKING:
    import pyarrow.compute as pc

MOST = 100
"""Records that may begin in one line and still be told one by one; a JSON array may stand in a single line."""
Step = dict[str, Any]
Group = Sequence[Manifest]
"""Artifacts of one stage with the same digest: they hold the same rows."""


class Place(msgspec.Struct, frozen=True):
    """A row in one table."""

    row_id: str
    source: str
    line: int


def at_line(store: Store, names: Names, what: str, digests: Sequence[str], line: int) -> dict[str, Any]:
    """Tell what became of every record that begins in a line of the files with these digests.

    Raises:
        ConfigError: no record begins there, or more than can be told.
    """
    found = [(digest, line, _path(store, names, digest, line)) for digest in digests]
    if not any(path for _, _, path in found):
        before = max((n for digest in digests for n in _lines(store, digest) if n < line), default=0)
        near = f"; the one before begins in line {before:,}" if before else ""
        raise ConfigError(
            f"trace: {names.of(digests[0])} was read, but no record begins in line {line:,}{near}\n"
            "  A blank line, a header or the inside of a record is nobody's row."
        )
    return _told(names, what, found)


def of_id(store: Store, names: Names, what: str, row_id: str) -> dict[str, Any]:
    """Tell what became of every record that had this id at any stage."""
    tables = [table for stage in ("ingest", "validate") for table in _tables(store, stage)]
    places = {(place.source, place.line) for table in tables for place in _rows(table, row_id=row_id)}
    return _told(names, what, [(*place, _path(store, names, *place, row_id)) for place in sorted(places)])


def ids(store: Store, digits: str) -> set[str]:
    """List the row ids, of any stage, that begin with these digits."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    found: set[str] = set()
    for stage in ("ingest", "validate"):
        for path in _tables(store, stage):
            column = pq.read_table(path, columns=["row_id"]).column("row_id")
            found.update(column.filter(pc.starts_with(column, digits)).to_pylist())
    return found


def _told(names: Names, what: str, found: Iterable[tuple[str, int, list[Step]]]) -> dict[str, Any]:
    """Give the answer.

    what, stage      as asked, and "row"
    records          one for each file and line:
      file, names    newest name of the file, and every name that these bytes had
      sha256, line
      mended_from  where the record was rejected that replay took in here, {file, line} or None
      mended_as    where replay put the mended record, [{file, line}]
      path           steps of ingest; each step leads to those in its `next`, down to export:
        stage, keys  artifacts that hold the same rows, newest first
        outcome      read, passed over, kept, rejected, duplicate, contradiction, train, validation, test or left out
                     (split), trained, not trained, shipped
        row_id       the row's id there, None where it was never a row
        …            rejected, passed over: reason, detail; duplicate: kind, similarity, kept {row_id, file, line};
                     contradiction: reason, and kept (None where no answer of its prompt stays);
                     deduplicate, kept: stands_for [{row_id, file, line, kind}];
                     left out: reason, and the file of the split in which it is listed;
                     shipped: versions [{name, version, gate}]
    trained          keys of the adapters that were trained on it, or on the row that stays in its place
    """
    replayed = origins()
    records: list[dict[str, Any]] = [
        {
            "file": names.of(source),
            "names": names.every(source),
            "sha256": source,
            "line": line,
            "mended_from": next(
                iter(_places(names, (old for new, old in replayed.items() if new == (source, line)))), None
            ),
            "mended_as": _places(names, (new for new, old in replayed.items() if old == (source, line))),
            "path": path,
        }
        for source, line, path in found
        if path
    ]
    steps = [step for record in records for step in _all(record["path"])]
    trained = dict.fromkeys(key for step in steps if step["outcome"] == "trained" for key in step["keys"])
    return {"what": what, "stage": "row", "records": records, "trained": list(trained)}


def _places(names: Names, places: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
    """Name lines of files; those of files that no run has read yet are left out."""
    known = {(names.of(digest), line): None for digest, line in places if digest in names}
    return [{"file": file, "line": line} for file, line in known]


def _path(store: Store, names: Names, source: str, line: int, row_id: str | None = None) -> list[Step]:
    """Follow the records of a line, or those of them that have an id at some stage, through every dataset."""
    found: list[Step] = []
    for group in _same(store.manifests("ingest")):
        folder = store.folder("ingest", group[0].key)
        validated = _same(descended(store, "validate", group))
        there = _whole(folder / "rows", source, line)
        alone = len(there) == 1
        read = there if alone or row_id is None else [row for row in there if row_id in _ids(row, validated)]
        if len(read) > MOST:
            raise ConfigError(
                f"trace: {len(read):,} records begin in line {line:,} of {names.of(source)}; name one by its row id\n"
                f"  tunemill trace {group[0].key[:12]} --json lists them."
            )
        for row in read:
            steps = [_validate(store, names, valid, row, alone) for valid in validated]
            found.append(_step(group, "read", row.row_id, steps))
        for rejection in _rejections(folder, source, line) if row_id is None else ():
            found.append(_rejected(group, rejection))
        for record in segments.set_aside(folder) if row_id is None else ():
            if (record.source, record.line) == (source, line):
                about = {"reason": record.reason, "detail": record.detail}
                found.append(_step(group, "passed over", None, [], **about))
    return found


def _validate(store: Store, names: Names, group: Group, read: Row, alone: bool) -> Step:
    """Find a row by its place, and where it is not alone there by the id that tidying gave it."""
    row, folder = _cleaned(read, group), store.folder("validate", group[0].key)
    stand = _rows(folder / "rows", source=row.source, line=row.line)
    if place := next((place for place in stand if alone or place.row_id == row.row_id), None):
        after = _same(descended(store, "deduplicate", group))
        return _step(group, "kept", place.row_id, [_deduplicate(store, names, each, place) for each in after])
    told = _rejections(folder, row.source, row.line)
    text = orjson.dumps(row.record).decode()[:2000]
    mine = next((each for each in told if alone or each["text"] == text), None)
    if mine is None:
        raise StoreError(f"{folder} neither kept nor rejected row {row.row_id}; this is a bug, report it")
    return _rejected(group, mine)


def _deduplicate(store: Store, names: Names, group: Group, row: Place) -> Step:
    folder = store.folder("deduplicate", group[0].key)
    if contradicts := _contradiction(folder, names, row):
        return _step(group, "contradiction", row.row_id, [], **contradicts)
    dropped = list(rows.read_lines(folder / "duplicates.jsonl"))
    after = _same(descended(store, "split", group))
    mine = next((each for each in dropped if msgspec.convert(each, Place) == row), None)
    if mine is None:
        gone = [
            {"row_id": d["row_id"], "file": names.of(d["source"]), "line": d["line"], "kind": d["kind"]}
            for d in dropped
            if (d["kept_row_id"], d["kept_source"], d["kept_line"]) == (row.row_id, row.source, row.line)
        ]
        return _step(group, "kept", row.row_id, [_split(store, each, row) for each in after], stands_for=gone)
    stays = Place(mine["kept_row_id"], mine["kept_source"], mine["kept_line"])
    kept = {"row_id": stays.row_id, "file": names.of(stays.source), "line": stays.line}
    steps = [_split(store, each, stays) for each in after]
    about = {"kind": mine["kind"], "similarity": mine["similarity"], "kept": kept}
    return _step(group, "duplicate", row.row_id, steps, **about)


def _contradiction(folder: Path, names: Names, row: Place) -> Step | None:
    """Say why a row was dropped for its prompt's other answers, and for which row; None where it was not."""
    path = folder / "contradictions.jsonl"
    listed = rows.read_lines(path) if path.exists() else ()
    mine = next((c for c in listed if c["outcome"] == "dropped" and msgspec.convert(c, Place) == row), None)
    if mine is None:
        return None
    kept = {"row_id": mine["stays_row_id"], "file": names.of(mine["stays_source"]), "line": mine["stays_line"]}
    return {"reason": mine["why"], "kept": kept if mine["stays_row_id"] else None}


def _split(store: Store, group: Group, row: Place) -> Step:
    folder = store.folder("split", group[0].key)
    side = next((side for side in SIDES if _holds(folder / side, row)), None)
    about = {} if side else _left_out(folder, row)
    adapters = _same(descended(store, "train", group))
    after = [_train(store, each, row, side) for each in adapters]
    return _step(group, side or "left out", row.row_id, after, **about)


def _left_out(folder: Path, row: Place) -> dict[str, Any]:
    """Tell why a row stands on no side.

    Raises:
        StoreError: no list of the split names it.
    """
    reasons = {"bridges": "its neighbours stand on two sides", "contaminated": "it holds a benchmark's item"}
    for name, reason in reasons.items():
        path = folder / f"{name}.jsonl"
        listed = rows.read_lines(path) if path.exists() else ()
        if any(msgspec.convert(each, Place) == row for each in listed):
            return {"reason": reason, "listed": path.name}
    raise StoreError(f"{folder} holds row {row.row_id} on no side; this is a bug, report it")


def _train(store: Store, group: Group, row: Place, side: str | None) -> Step:
    shipped = [
        _step(each, "shipped", row.row_id, [], versions=versions(each[0].digest))
        for each in _same(descended(store, "export", group))
    ]
    return _step(group, "trained" if side == "train" else "not trained", row.row_id, shipped)


def _step(group: Group, outcome: str, row_id: str | None, after: list[Step], **about: Any) -> Step:
    keys = [manifest.key for manifest in group]
    return {"stage": group[0].stage, "keys": keys, "outcome": outcome, "row_id": row_id, **about, "next": after}


def _rejected(group: Group, rejection: dict[str, Any]) -> Step:
    return _step(group, "rejected", None, [], reason=rejection["reason"], detail=rejection["detail"])


def _ids(row: Row, validated: Iterable[Group]) -> set[str]:
    """Give the ids that a row has after each of its validations, and before."""
    return {row.row_id, *(_cleaned(row, group).row_id for group in validated)}


def _cleaned(row: Row, group: Group) -> Row:
    """Give a row as a validation saw it."""
    return clean(row, ValidateSettings.model_validate(group[0].parts["section"]["settings"]))


def _same(manifests: Iterable[Manifest]) -> list[list[Manifest]]:
    """Put artifacts that hold the same together: what follows was made once for all of them."""
    groups: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        groups.setdefault(manifest.digest, []).append(manifest)
    return list(groups.values())


def _tables(store: Store, stage: str) -> list[Path]:
    return [store.folder(stage, group[0].key) / "rows" for group in _same(store.manifests(stage))]


def _lines(store: Store, digest: str) -> set[int]:
    return {place.line for table in _tables(store, "ingest") for place in _rows(table, source=digest)}


def _rows(path: Path, **where: str | int) -> list[Place]:
    """Read where rows stand, of those rows whose columns have the given values."""
    table = segments.table(path, Place.__struct_fields__, _matching(where))
    return msgspec.convert(table.to_pylist(), list[Place])


def _matching(where: Mapping[str, str | int]) -> "pc.Expression":
    """Say that every column has its value."""
    import pyarrow.compute as pc

    return functools.reduce(operator.and_, (pc.field(name) == value for name, value in where.items()))


def _holds(path: Path, row: Place) -> bool:
    return bool(_rows(path, **msgspec.structs.asdict(row)))


def _whole(path: Path, source: str, line: int) -> list[Row]:
    import pyarrow.parquet as pq

    table = pq.read_table(path, filters=[("source", "=", source), ("line", "=", line)])
    return msgspec.convert(table.to_pylist(), list[Row])


def _rejections(folder: Path, source: str, line: int) -> list[dict[str, Any]]:
    read = rows.read_lines(folder / "rejected.jsonl")
    return [record for record in read if record["line"] == line and record["source"] == source]


def _all(steps: Iterable[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        yield from _all(step["next"])
