"""Hold a deduplication against what was planted."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.data.corpus import NEAR

Flags = npt.NDArray[np.bool_]
PLANTED = ("exact", *NEAR)


def score(truth: Path, dropped: Flags, offset: int = 0) -> dict[str, float]:
    """Give recall (planted copies that were dropped, also by kind) and precision (dropped rows that are copies).

    A copy whose original is not among the rows, which begin with number `offset`, is no copy.
    """
    planted = np.load(truth)
    kind = planted["kind"][: dropped.size]
    copy = planted["origin"][: dropped.size] != np.arange(offset, offset + dropped.size)
    found = {"recall": _share(dropped[copy]), "precision": _share(copy[dropped])}
    return found | {f"recall of {name}": _share(dropped[kind == name]) for name in PLANTED}


def _share(flags: Flags) -> float:
    return round(float(flags.mean()), 5) if flags.size else 1.0
