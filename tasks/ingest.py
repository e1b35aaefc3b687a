"""Ingest: raw files become rows; what cannot become one is kept with its file, line and reason."""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec
import orjson

from tasks.history import note_files
from tasks.read_file import read_file, shown
from tasks.run import Run, listener
from tasks.stage import stage
from tunemill import rows, segments
from tunemill.artifacts import RawDataset, RawFile, SourceFile, SourceFiles
from tunemill.errors import DataError
from tunemill.files import FileDigests, link
from tunemill.home import PROJECT, Home
from tunemill.rows import DISLIKED, PassedOver, Rejected
from tunemill.sources import expand
from tunemill.sources.closed import still_open
from tunemill.sources.hub_datasets import snapshots
from tunemill.sources.mlflow_traces import snapshot
from tunemill.sources.settings import IngestSettings
from tunemill.store import Work


def closed_files(settings: IngestSettings) -> SourceFiles:
    """Find tonight's files and what they hold; their names go to a side table that is only ever added to.

    Datasets and traces are written to files of this home first.

    Raises:
        DataError: every file that was found may still be written, or the hub or MLflow does not give what is asked.
    """
    home = Home.find()
    digest = FileDigests(home.root / "digests.json")
    paths = _closed(settings) if settings.files else []
    paths += snapshots(settings.datasets, home)
    paths += snapshot(settings.traces, settings.where, home) if settings.traces else []
    found = [SourceFile(sha256=digest(path), path=str(path)) for path in paths]
    digest.save()
    remember(found, home.root / "sources.jsonl")
    return SourceFiles(files=tuple(sorted(found, key=lambda file: file.sha256)))


def _closed(settings: IngestSettings) -> list[Path]:
    """Leave out, with a warning each, the files that may still be written."""
    paths = expand(settings.files, PROJECT)
    opened = still_open(paths, settings.files, PROJECT, settings.closed, time.time())
    told = [f"ingest: {shown(path)} is not read: {why}" for path, why in opened.items()]
    if len(opened) == len(paths):
        raise DataError(
            f"ingest: none of {len(paths):,} files is closed\n"
            + "\n".join(f"  {line}" for line in told[:12])
            + "\n  Run again when they are, change ingest.closed, or name in ingest.files each file that is whole."
        )
    for line in told:
        Run.current().warn(line)
    return [path for path in paths if path not in opened]


def remember(files: Iterable[SourceFile], table: Path) -> None:
    """Add (digest, path) pairs that the side table does not hold yet."""
    known = {(r["sha256"], r["path"]) for r in rows.read_lines(table)} if table.exists() else set()
    new = [file for file in files if (file.sha256, file.path) not in known]
    with table.open("ab") as out:
        out.writelines(orjson.dumps(file.model_dump()) + b"\n" for file in new)


def file_names(table: Path | None = None) -> dict[str, str]:
    """Give the newest name of every source file by its digest, relative to the project where it lies inside."""
    table = table or Home.find().root / "sources.jsonl"
    if not table.exists():
        return {}
    return {r["sha256"]: shown(Path(r["path"])) for r in rows.read_lines(table)}


@stage(makes=RawDataset, version=5)
def ingest(work: Work, files: SourceFiles, settings: IngestSettings) -> RawDataset:
    """Turn every record of every file into exactly one row, rejection, or record passed over.

    A file that an earlier night has read is not read again; what a kill leaves is held too.
    """
    found: Counter[str] = Counter()
    distinct = sorted({file.sha256: file for file in files.files}.values(), key=lambda file: file.sha256)
    with (work.folder / "rejected.jsonl").open("wb") as rejected:
        for number, file in enumerate(distinct, 1):
            part = read_file.run(work.store, file, settings.of_one_file(Path(file.path)))
            _take(work, work.open(part), rejected)
            warn(part, work.open(part), shown(Path(file.path)))
            found.update(part.counts)
            listener().progress("ingest", number, len(distinct), "files")
    note_files(work, files)
    names = {f.sha256: shown(Path(f.path)) for f in files.files}
    limit(found, settings.max_rejected, names, work)
    return work.seal(RawDataset, files=len(files.files), **found)


def _take(work: Work, part: Path, rejected: BinaryIO) -> None:
    """Give the tables of a part a second name here, and copy what it rejected behind that of the others."""
    for table in ("rows", segments.PASSED, segments.KEPT_APART):
        if (part / table).is_dir():
            (work.folder / table).mkdir(exist_ok=True)
            link((part / table).iterdir(), work.folder / table)
    if (listed := part / "rejected.jsonl").is_file():
        with listed.open("rb") as lines:
            shutil.copyfileobj(lines, rejected)


def warn(part: RawFile, folder: Path, name: str) -> None:
    """Say what no rejected record can: that rows are lost unseen, or that a row lost its group or its judgement."""
    counts = part.counts
    if counts["files_cut_short"]:
        # What ends the reading of a file is its last rejected record.
        reason = list(_lines(folder / "rejected.jsonl"))[-1].reason
        text = f"{name} could not be read to its end ({reason}); the rows after that are lost, not counted"
        Run.current().warn(f"ingest: {text}. Mend the file and run again")
    if counts["ids_passed_over"]:
        text = f"{counts['ids_passed_over']:,} conversation, user or time values are no text or whole number"
        Run.current().warn(f"ingest: {name}: {text}; those rows are not grouped by them. Name the keys in ingest.map")
    if counts["feedback_unread"]:
        text = f"{counts['feedback_unread']:,} feedback values are neither up nor down"
        Run.current().warn(f"ingest: {name}: {text}; those rows train as if nobody had said anything")


def limit(found: Mapping[str, int], allowed: float, names: Mapping[str, str], work: Work) -> None:
    """Stop when more records than allowed could not be read, or none could.

    Raises:
        DataError: with the counts by reason and an example of each.
    """
    total = found["rows"] + found["disliked"] + found["rejected"]
    share = found["rejected"] / total if total else 1.0
    if found["rows"] and share <= allowed:
        return
    listed = work.resume / "rejected.jsonl"
    shutil.copyfile(work.folder / "rejected.jsonl", listed)
    lines = [f"ingest: {found['rejected']:,} of {total:,} records rejected ({share:.1%}); the limit is {allowed:.1%}"]
    if not found["rejected"]:
        lines = [f"ingest: 0 rows; {found['passed_over']:,} records passed over, {found['disliked']:,} disliked"]
    lines += _by_reason(_lines(listed), names)
    passed = (record for record in segments.set_aside(work.folder) if record.reason != DISLIKED)
    lines += [f"{line}  (passed over, ingest.where)" for line in _by_reason(passed, names)]
    lines += [f"  all that were rejected: {listed}"] if found["rejected"] else []
    raise DataError("\n".join([*lines, "  Raise ingest.max_rejected, widen ingest.where, or mend the files."]))


def _lines(path: Path) -> Iterator[Rejected]:
    return (msgspec.convert(line, Rejected) for line in rows.read_lines(path))


def _by_reason(records: Iterable[Rejected | PassedOver], names: Mapping[str, str]) -> list[str]:
    counts, first = Counter[str](), dict[str, Rejected | PassedOver]()
    for record in records:
        counts[record.reason] += 1
        first.setdefault(record.reason, record)
    return [
        f"  {count:,}  {reason}  e.g. {names[first[reason].source]}:{first[reason].line}"
        for reason, count in counts.most_common()
    ]
