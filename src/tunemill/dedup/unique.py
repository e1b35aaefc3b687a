"""Prove that deduplication left no text twice, from the bytes of the index and not from what it made of them."""

from collections.abc import Sequence

import numpy as np

from tunemill.dedup.index import text_hashes, texts_of
from tunemill.dedup.segments import Array, Segment
from tunemill.errors import DataError


def require_unique(segments: Sequence[Segment], kept: Array) -> None:
    """Look at every two kept rows whose texts have the same hash; `kept` is a mask over all rows.

    Raises:
        DataError: two of them have the same text.
    """
    rows = np.flatnonzero(kept)
    texts = texts_of(segments, rows)
    hashed = np.full(sum(segment.header.texts for segment in segments), -1, np.int64)
    for segment in segments:
        exact, first = segment.arrays["exact"], segment.header.first_text
        hashed[first + (exact & np.uint64(0xFFFFFFFF)).astype(np.int64)] = exact >> np.uint64(32)
    order = np.argsort(hashed[texts], kind="stable")
    same = np.flatnonzero(np.diff(hashed[texts][order]) == 0)
    seen: dict[str, int] = {}
    for at in np.unique(order[np.concatenate([same, same + 1])]).tolist():
        text = _text(segments, int(texts[at]))
        other = seen.setdefault(text, int(rows[at])) if text else int(rows[at])
        if other != rows[at]:
            raise DataError(
                f"deduplicate: rows {other:,} and {rows[at]:,} of the index are both left and have the same text; "
                "the deduplicated rows may not be used\n  This is a bug, report it."
            )


def text_keys(segments: Sequence[Segment], rows: Array) -> list[int]:
    """Give a 64-bit hash of the text of each row; rows that say nothing are left out, since they equal no other."""
    texts = texts_of(segments, rows)
    lengths = np.concatenate([np.empty(0, np.int64), *(np.diff(segment.arrays["offsets"]) for segment in segments)])
    keys: list[int] = text_hashes(segments, texts[lengths[texts] > 0]).view(np.int64).tolist()
    return keys


def _text(segments: Sequence[Segment], number: int) -> str:
    return next(s for s in reversed(segments) if s.header.first_text <= number).text(number)
