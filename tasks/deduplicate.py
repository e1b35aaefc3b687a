"""Deduplicate: of every cluster of near-identical rows the oldest stays; each dropped one names the row that stays.

Rows whose prompt was answered in more than one way are listed, and a rule says which of them stay. A night reads only
the tables of rows that the night before did not know, and comes to what one batch of all rows would have come to.

    rows/            a segment a night; with the numbers of their rows in the index in placed/
    index/           what was seen: texts, signatures, links, and the hashes of prompts and answers
    duplicates.jsonl, contradictions.jsonl, and what each line was made from in listed/
    sources.json     the tables of rows that were read, with their digests
"""

from pathlib import Path

import orjson

from tasks.stage import stage
from tunemill import dedup, segments
from tunemill.artifacts import CleanDataset, ValidDataset
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.dedup.unique import require_unique, text_keys
from tunemill.errors import StoreError
from tunemill.quality.expectations import certify_unique
from tunemill.store import Manifest, Work

ROWS = "rows/"
SOURCES = "sources.json"
"""Table of rows → sha256 of its bytes."""


@stage(makes=CleanDataset, version=7, engines=("great_expectations",))
def deduplicate(
    work: Work, valid: ValidDataset, previous: CleanDataset | None, settings: DeduplicateSettings
) -> CleanDataset:
    """Keep one row a cluster, and let Great Expectations certify that no text is left twice."""
    rows, before = work.open(valid) / ROWS, None if previous is None else work.open(previous)
    tonight = tables(work.store.manifest(valid.stage, valid.key))
    new = tonight.keys() - (known_tables(before) if before else {}).keys()
    found = dedup.deduplicate(rows, new, before, work.folder, settings)
    require_unique(found.segments, found.kept)
    certify_unique(text_keys(found.segments, found.added))
    (work.folder / SOURCES).write_bytes(orjson.dumps(tonight, option=orjson.OPT_SORT_KEYS))
    came, kept = segments.count(rows), segments.count(work.folder / ROWS)
    if kept + found.exact + found.near + found.dropped != came:
        raise StoreError(
            f"deduplicate: {came:,} rows came and {kept + found.exact + found.near + found.dropped:,} were kept or "
            "named; this is a bug, report it"
        )
    return work.seal(
        CleanDataset,
        rows=kept,
        exact_duplicates=found.exact,
        near_duplicates=found.near,
        contradictions=found.prompts,
        dropped_contradictions=found.dropped,
    )


def tables(valid: Manifest | None) -> dict[str, str]:
    """Give the tables of rows of a dataset, name → sha256."""
    files = {} if valid is None else valid.files
    return {name.removeprefix(ROWS): file.sha256 for name, file in files.items() if name.startswith(ROWS)}


def known_tables(clean: Path) -> dict[str, str]:
    """Give the tables of rows that a clean dataset was made from, name → sha256."""
    return dict(orjson.loads((clean / SOURCES).read_bytes()))
