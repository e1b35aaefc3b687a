"""Ingest: raw files become rows; what cannot become one is kept with its file, line and reason."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import orjson

from tasks.run import Run
from tasks.stage import stage
from tunemill import rows
from tunemill.artifacts import RawDataset, SourceFile, SourceFiles
from tunemill.errors import DataError, StoreError
from tunemill.files import FileDigests
from tunemill.home import PROJECT, Home
from tunemill.rows import PassedOver, Rejected, Row
from tunemill.sources import expand, read
from tunemill.sources.closed import still_open
from tunemill.sources.mlflow_traces import snapshot
from tunemill.sources.settings import IngestSettings
from tunemill.sources.streams import FileCounts
from tunemill.store import Work


def closed_files(settings: IngestSettings) -> SourceFiles:
    """Find tonight's files and what they hold; their names go to a side table that is only ever added to.

    Traces are written to files of this home first.

    Raises:
        DataError: every file that was found may still be written, or MLflow does not give the traces.
    """
    home = Home.find()
    digest = FileDigests(home.root / "digests.json")
    paths = _closed(settings) if settings.files else []
    paths += snapshot(settings.traces, settings.where, home) if settings.traces else []
    found = [SourceFile(sha256=digest(path), path=str(path)) for path in paths]
    digest.save()
    remember(found, home.root / "sources.jsonl")
    return SourceFiles(files=tuple(sorted(found, key=lambda file: file.sha256)))


def _closed(settings: IngestSettings) -> list[Path]:
    """Leave out, with a warning each, the files that may still be written."""
    paths = expand(settings.files, PROJECT)
    opened = still_open(paths, settings.files, PROJECT, settings.closed, time.time())
    told = [f"ingest: {_shown(path)} is not read: {why}" for path, why in opened.items()]
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
    return {r["sha256"]: _shown(Path(r["path"])) for r in rows.read_lines(table)}


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)


@stage(makes=RawDataset, version=3)
def ingest(work: Work, files: SourceFiles, settings: IngestSettings) -> RawDataset:
    """Turn every record of every file into exactly one row, rejection, or record passed over."""
    read_in = Read()
    for file in {file.sha256: file for file in files.files}.values():
        read_in.take(file, settings)
    written = rows.write(work.folder / "rows.parquet", sorted(read_in.kept, key=lambda row: row.place))
    written += rows.write_lines(work.folder / "rejected.jsonl", read_in.rejected)
    written += rows.write_passed(work.folder / "passed_over.parquet", read_in.passed)
    if read_in.disliked:
        written += rows.write(work.folder / "disliked.parquet", sorted(read_in.disliked, key=lambda row: row.place))
    if written != read_in.counts["records"]:
        raise StoreError(
            f"ingest: {read_in.counts['records']:,} records were read and {written:,} written; this is a bug, report it"
        )
    rows.write_lines(work.resume / "rejected.jsonl", read_in.rejected)
    names = {f.sha256: _shown(Path(f.path)) for f in files.files}
    limit(read_in, settings.max_rejected, names, work.resume / "rejected.jsonl")
    return work.seal(RawDataset, files=len(files.files), **read_in.totals())


class Read:
    """What came of the files so far."""

    def __init__(self) -> None:
        self.kept: list[Row] = []
        self.disliked: list[Row] = []
        self.rejected: list[Rejected] = []
        self.passed: list[PassedOver] = []
        self.counts: Counter[str] = Counter()
        """Sums over the files of each number in `FileCounts`, and of the files that were cut short."""
        self._digests = FileDigests(Home.find().root / "digests.json")

    def take(self, file: SourceFile, settings: IngestSettings) -> None:
        """Read one file.

        Raises:
            DataError: its bytes are no longer those of its digest.
        """
        path, counts = Path(file.path), FileCounts()
        for record in read(path, file.sha256, settings, counts):
            match record:
                case Row(liked=False):
                    self.disliked.append(record)
                case Row():
                    self.kept.append(record)
                case Rejected():
                    self.rejected.append(record)
                case PassedOver():
                    self.passed.append(record)
        require_unchanged(file, self._digests)
        cut_short = bool(counts.cut_short)
        self.counts.update({name: n for name, n in vars(counts).items() if isinstance(n, int)}, cut_short=cut_short)
        warn(counts, _shown(path))

    def totals(self) -> dict[str, int]:
        """Give the counts of the artifact."""
        counts = self.counts
        return {
            "rows": len(self.kept),
            "rejected": len(self.rejected),
            "passed_over": len(self.passed),
            "disliked": len(self.disliked),
            "other_answers": counts["other_answers"],
            "byte_order_marks": counts["boms"],
            "blank_lines": counts["blank_lines"],
            "files_cut_short": counts["cut_short"],
            "ids_passed_over": counts["ids_passed_over"],
        }


def require_unchanged(file: SourceFile, digests: FileDigests) -> None:
    """Compare a file with its digest again, without reading it where its stat has not changed.

    Raises:
        DataError: it was written while it was read, so its rows belong to no bytes that could be named.
    """
    if digests(Path(file.path)) != file.sha256:
        raise DataError(
            f"ingest: {_shown(Path(file.path))} changed while it was read; its rows are thrown away\n"
            "  Run again when it is closed, or say in ingest.closed by what a closed file is known."
        )


def warn(counts: FileCounts, name: str) -> None:
    """Say what no rejected record can: that rows are lost unseen, or that a row lost its group or its judgement."""
    if counts.cut_short:
        text = f"{name} could not be read to its end ({counts.cut_short}); the rows after that are lost, not counted"
        Run.current().warn(f"ingest: {text}. Mend the file and run again")
    if counts.ids_passed_over:
        text = f"{counts.ids_passed_over:,} conversation, user or time values are no text or whole number"
        Run.current().warn(f"ingest: {name}: {text}; those rows are not grouped by them. Name the keys in ingest.map")
    if counts.feedback_unread:
        text = f"{counts.feedback_unread:,} feedback values are neither up nor down"
        Run.current().warn(f"ingest: {name}: {text}; those rows train as if nobody had said anything")


def limit(found: Read, allowed: float, names: dict[str, str], listed: Path) -> None:
    """Stop when more records than allowed could not be read, or none could.

    Raises:
        DataError: with the counts by reason and an example of each.
    """
    total = len(found.kept) + len(found.disliked) + len(found.rejected)
    share = len(found.rejected) / total if total else 1.0
    if found.kept and share <= allowed:
        return
    lines = [f"ingest: {len(found.rejected):,} of {total:,} records rejected ({share:.1%}); the limit is {allowed:.1%}"]
    if not found.rejected:
        lines = [f"ingest: 0 rows; {len(found.passed):,} records passed over, {len(found.disliked):,} disliked"]
    lines += _by_reason(found.rejected, names)
    lines += [f"{line}  (passed over, ingest.where)" for line in _by_reason(found.passed, names)]
    lines += [f"  all that were rejected: {listed}"] if found.rejected else []
    raise DataError("\n".join([*lines, "  Raise ingest.max_rejected, widen ingest.where, or mend the files."]))


def _by_reason(records: Sequence[Rejected | PassedOver], names: dict[str, str]) -> list[str]:
    counts = Counter(record.reason for record in records)
    first = {record.reason: record for record in reversed(records)}
    return [
        f"  {count:,}  {reason}  e.g. {names[first[reason].source]}:{first[reason].line}"
        for reason, count in counts.most_common()
    ]
