"""Hold a deduplication against what was planted."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.data.corpus import NEAR

Flags = npt.NDArray[np.bool_]
PLANTED = ("exact", *NEAR)


def score(truth: Path, dropped: Flags, offset: int = 0) -> dict[str, float]:
    """Give recall (copies that were dropped) and precision (dropped rows that were one too many).

    An original and its copies are one family, of which one should stay, whichever: engines choose differently. Recall
    is also given for each kind of copy, over the families of two rows. `offset` is the number of the first row: an
    original before it is held already, so all its copies should be dropped.
    """
    planted = np.load(truth)
    kind, origin = planted["kind"], planted["origin"]
    _, family = np.unique(origin, return_inverse=True)
    size, gone = np.bincount(family), np.bincount(family, weights=dropped).astype(np.int64)
    held = np.zeros(size.size, np.bool_)
    held[family[origin < offset]] = True
    extra = np.where(held, size, size - 1)
    right = np.minimum(gone, extra)
    found = {"recall": _share(right.sum(), extra.sum()), "precision": _share(right.sum(), gone.sum())}
    for name in PLANTED:
        pairs = np.unique(family[(kind == name) & (extra[family] == 1)])
        found[f"recall of {name}"] = _share(right[pairs].sum(), pairs.size)
    return found


def _share(part: int, whole: int) -> float:
    return round(float(part) / whole, 5) if whole else 1.0
