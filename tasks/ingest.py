"""Ingest: raw files become rows; what cannot become one is kept with its file, line and reason."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import orjson

from tasks.history import note_files
from tasks.run import Run
from tasks.stage import stage
from tunemill import rows
from tunemill.artifacts import RawDataset, SourceFile, SourceFiles
from tunemill.errors import DataError, StoreError
from tunemill.files import FileDigests
from tunemill.home import PROJECT, Home
from tunemill.rows import Rejected, Row
from tunemill.sources import expand, read
from tunemill.sources.settings import IngestSettings
from tunemill.sources.streams import FileCounts
from tunemill.store import Work


def closed_files(settings: IngestSettings) -> SourceFiles:
    """Find tonight's files and what they hold; their names go to a side table that is only ever added to."""
    home = Home.find()
    digest = FileDigests(home.root / "digests.json")
    found = [SourceFile(sha256=digest(path), path=str(path)) for path in expand(settings.files, PROJECT)]
    digest.save()
    remember(found, home.root / "sources.jsonl")
    return SourceFiles(files=tuple(sorted(found, key=lambda file: file.sha256)))


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


@stage(makes=RawDataset, version=1)
def ingest(work: Work, files: SourceFiles, settings: IngestSettings) -> RawDataset:
    """Read every record of every file to exactly one row or one rejection."""
    kept: list[Row] = []
    rejected: list[Rejected] = []
    found, cut_short = FileCounts(), 0
    for file in {file.sha256: file for file in files.files}.values():
        counts = FileCounts()
        for record in read(Path(file.path), file.sha256, settings, counts):
            (kept if isinstance(record, Row) else rejected).append(record)  # type: ignore[arg-type]
        found.records += counts.records
        found.boms += counts.boms
        found.blank_lines += counts.blank_lines
        found.ids_passed_over += counts.ids_passed_over
        cut_short += bool(counts.cut_short)
        warn(counts, _shown(Path(file.path)))
    note_files(work, files)
    written = rows.write(work.folder / "rows.parquet", sorted(kept, key=lambda row: row.place))
    written += rows.write_lines(work.folder / "rejected.jsonl", rejected)
    if written != found.records:
        raise StoreError(
            f"ingest: {found.records:,} records were read and {written:,} written; this is a bug, report it"
        )
    rows.write_lines(work.resume / "rejected.jsonl", rejected)
    names = {f.sha256: _shown(Path(f.path)) for f in files.files}
    limit(kept, rejected, settings.max_rejected, names, work.resume / "rejected.jsonl")
    return work.seal(
        RawDataset,
        files=len(files.files),
        rows=len(kept),
        rejected=len(rejected),
        byte_order_marks=found.boms,
        blank_lines=found.blank_lines,
        files_cut_short=cut_short,
        ids_passed_over=found.ids_passed_over,
    )


def warn(counts: FileCounts, name: str) -> None:
    """Say what no rejected record can: that rows are lost unseen, or that a row lost its group."""
    if counts.cut_short:
        text = f"{name} could not be read to its end ({counts.cut_short}); the rows after that are lost, not counted"
        Run.current().warn(f"ingest: {text}. Mend the file and run again")
    if counts.ids_passed_over:
        text = f"{counts.ids_passed_over:,} conversation, user or time values are no text or whole number"
        Run.current().warn(f"ingest: {name}: {text}; those rows are not grouped by them. Name the keys in ingest.map")


def limit(kept: list[Row], rejected: list[Rejected], allowed: float, names: dict[str, str], listed: Path) -> None:
    """Stop when more records than allowed could not be read, or none could.

    Raises:
        DataError: with the counts by reason and an example of each.
    """
    total = len(kept) + len(rejected)
    share = len(rejected) / total if total else 1.0
    if kept and share <= allowed:
        return
    counts = Counter(r.reason for r in rejected)
    first = {r.reason: r for r in reversed(rejected)}
    lines = [
        f"  {count:,}  {reason}  e.g. {names[first[reason].source]}:{first[reason].line}"
        for reason, count in counts.most_common()
    ]
    raise DataError(
        f"ingest: {len(rejected):,} of {total:,} records rejected ({share:.1%}); the limit is {allowed:.1%}\n"
        + "\n".join(lines)
        + f"\n  all of them: {listed}\n  Raise ingest.max_rejected, or mend the files."
    )
