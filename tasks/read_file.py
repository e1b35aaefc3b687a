"""Read one source file into rows, rejections and records passed over: the part of an ingest that later nights hold."""

import functools
from collections.abc import Iterable
from pathlib import Path

from tasks.stage import stage
from tunemill import rows, segments
from tunemill.artifacts import RawFile, SourceFile
from tunemill.errors import DataError, StoreError
from tunemill.files import FileDigests
from tunemill.home import PROJECT, Home
from tunemill.rows import PassedOver, Rejected, Row
from tunemill.sources import read
from tunemill.sources.settings import IngestSettings
from tunemill.sources.streams import FileCounts
from tunemill.store import Work


@stage(makes=RawFile, version=2)
def read_file(work: Work, file: SourceFile, settings: IngestSettings) -> RawFile:
    """Turn every record of a file into exactly one row, rejection, or record passed over; see `of_one_file`.

    Raises:
        DataError: its bytes are no longer those of its digest.
    """
    counts = FileCounts()
    kept, disliked, rejected, passed = _sorted_out(read(Path(file.path), file.sha256, settings, counts))
    _require_unchanged(file)
    name = f"{file.sha256}.parquet"
    tables = {"rows": _from_old_to_new(kept), segments.KEPT_APART: _from_old_to_new(disliked)}
    written = sum(rows.write(_into(work, table) / name, found) for table, found in tables.items() if found)
    written += rows.write_passed(_into(work, segments.PASSED) / name, passed) if passed else 0
    written += rows.write_lines(work.folder / "rejected.jsonl", rejected) if rejected else 0
    if written != counts.records:
        raise StoreError(f"ingest: {counts.records:,} records were read and {written:,} written; this is a bug")
    return work.seal(
        RawFile,
        rows=len(kept),
        rejected=len(rejected),
        passed_over=len(passed),
        disliked=len(disliked),
        other_answers=counts.other_answers,
        messages_joined=counts.joined,
        byte_order_marks=counts.boms,
        blank_lines=counts.blank_lines,
        files_cut_short=int(bool(counts.cut_short)),
        ids_passed_over=counts.ids_passed_over,
        feedback_unread=counts.feedback_unread,
    )


def shown(path: Path) -> str:
    """Write a path as it is known in this project: relative to it where it lies inside."""
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)


def _sorted_out(
    found: Iterable[Row | Rejected | PassedOver],
) -> tuple[list[Row], list[Row], list[Rejected], list[PassedOver]]:
    """Put rows, disliked rows, rejected records and those passed over each into a list of their own."""
    kept, disliked, rejected, passed = list[Row](), list[Row](), list[Rejected](), list[PassedOver]()
    for record in found:
        match record:
            case Row(liked=False):
                disliked.append(record)
            case Row():
                kept.append(record)
            case Rejected():
                rejected.append(record)
            case PassedOver():
                passed.append(record)
    return kept, disliked, rejected, passed


def _from_old_to_new(found: Iterable[Row]) -> list[Row]:
    return sorted(found, key=lambda row: row.place)


def _into(work: Work, table: str) -> Path:
    folder = work.folder / table
    folder.mkdir()
    return folder


def _require_unchanged(file: SourceFile) -> None:
    """Compare a file with its digest again, without reading it where its stat has not changed.

    Raises:
        DataError: it was written while it was read, so its rows belong to no bytes that could be named.
    """
    if _digests()(Path(file.path)) != file.sha256:
        raise DataError(
            f"ingest: {shown(Path(file.path))} changed while it was read; its rows are thrown away\n"
            "  Run again when it is closed, or say in ingest.closed by what a closed file is known."
        )


def _digests() -> FileDigests:
    """Give this home's memory of digests, read once for all files of a night."""
    memory = Home.find().root / "digests.json"
    return _remembered(memory, memory.stat().st_mtime_ns if memory.exists() else 0)


@functools.lru_cache(maxsize=1)
def _remembered(memory: Path, written: int) -> FileDigests:
    return FileDigests(memory)
