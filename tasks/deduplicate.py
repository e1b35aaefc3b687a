"""Deduplicate: of every cluster of near-identical rows the oldest stays; each dropped one names the row that stays."""

from tasks.stage import stage
from tunemill import dedup, rows
from tunemill.artifacts import CleanDataset, ValidDataset
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.dedup.text import conversation_text, normalise
from tunemill.quality.expectations import certify_unique
from tunemill.store import Work


@stage(makes=CleanDataset, version=3, engines=("great_expectations",))
def deduplicate(work: Work, valid: ValidDataset, settings: DeduplicateSettings) -> CleanDataset:
    """Keep one row a cluster, and let Great Expectations certify that no text is left twice."""
    found = dedup.deduplicate(rows.read(work.open(valid) / "rows.parquet"), settings)
    certify_unique([normalise(conversation_text(row)) for row in found.kept])
    rows.write(work.folder / "rows.parquet", found.kept)
    rows.write_lines(work.folder / "duplicates.jsonl", found.duplicates)
    kinds = [duplicate.kind for duplicate in found.duplicates]
    return work.seal(
        CleanDataset,
        rows=len(found.kept),
        exact_duplicates=kinds.count("exact"),
        near_duplicates=kinds.count("near"),
        contradictions=len(found.contradictions),
    )
