"""Read JSONL: one JSON object on each line."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tunemill.sources import strict_json
from tunemill.sources.reasons import Fault
from tunemill.sources.streams import BOM, FileCounts, Found, chunks, lines

if TYPE_CHECKING:
    from tunemill.sources.settings import IngestSettings


def read(path: Path, settings: "IngestSettings", counts: FileCounts) -> Iterator[Found]:
    """Yield one record for each line that is not blank; a bad line never costs its neighbours."""
    limit = settings.max_line_bytes
    for number, raw in lines(chunks(path), limit):
        if raw.startswith(BOM):  # also in the middle: files are joined with `cat`
            raw = raw.removeprefix(BOM)
            counts.boms += 1
        if len(raw) > limit:
            yield number, raw, Fault("too long", f"more than {limit:,} bytes; see ingest.max_line_bytes")
        elif not raw or raw.isspace():
            counts.blank_lines += 1
        else:
            raw = raw.removesuffix(b"\r")
            yield number, raw, strict_json.parse(raw)
