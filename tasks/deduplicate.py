"""Deduplicate: of every cluster of near-identical rows the oldest stays; each dropped one names the row that stays.

Rows whose prompt was answered in more than one way are listed, and a rule says which of them stay.
"""

from tasks.stage import stage
from tunemill import dedup, rows
from tunemill.artifacts import CleanDataset, ValidDataset
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.dedup.text import conversation_text, normalise
from tunemill.errors import StoreError
from tunemill.quality.expectations import certify_unique
from tunemill.store import Work


@stage(makes=CleanDataset, version=5, engines=("great_expectations",))
def deduplicate(work: Work, valid: ValidDataset, settings: DeduplicateSettings) -> CleanDataset:
    """Keep one row a cluster, and let Great Expectations certify that no text is left twice."""
    came = rows.read(work.open(valid) / "rows.parquet")
    found = dedup.deduplicate(came, settings)
    certify_unique([normalise(conversation_text(row)) for row in found.kept])
    written = rows.write(work.folder / "rows.parquet", found.kept)
    written += rows.write_lines(work.folder / "duplicates.jsonl", found.duplicates)
    rows.write_lines(work.folder / "contradictions.jsonl", found.contradictions)
    if written + found.dropped != len(came):
        raise StoreError(
            f"deduplicate: {len(came):,} rows came and {written + found.dropped:,} were kept or named; "
            "this is a bug, report it"
        )
    kinds = [duplicate.kind for duplicate in found.duplicates]
    return work.seal(
        CleanDataset,
        rows=len(found.kept),
        exact_duplicates=kinds.count("exact"),
        near_duplicates=kinds.count("near"),
        contradictions=len({one.prompt_id for one in found.contradictions}),
        dropped_contradictions=found.dropped,
    )
