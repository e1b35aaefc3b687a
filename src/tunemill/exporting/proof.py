"""Compare what is shipped with the adapter as it was trained, measure by measure: pure, no model needed.

Every measure stands beside its bound and beside the noise floor: the same measure between two ways of running the
adapter itself. A bound below the floor could never hold, one far above it would prove nothing.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    LogProbabilities = NDArray[np.float32]

WORST = 3
"""Prompts that a failed check names."""
CHUNK = 64
"""Positions that are compared at a time, so that a large vocabulary needs little memory."""


class Check(msgspec.Struct, frozen=True):
    """One measure on one file."""

    file: str
    """`merged`, or the name of a GGUF."""
    measure: str
    value: float
    side: Literal["at least", "at most"]
    bound: float
    floor: float | None
    """The same measure between two ways of running the adapter as trained; None where it is exact by nature."""
    worst: list[str] = []
    """Row ids, worst first, with what differs."""

    @property
    def passed(self) -> bool:
        """Say whether the bound holds; a value that is not a number never does."""
        return self.value >= self.bound if self.side == "at least" else self.value <= self.bound

    @property
    def sentence(self) -> str:
        """Say it in one line, for a person."""
        floor = "" if self.floor is None else f"; noise floor {number(self.floor)}"
        return f"{self.file}: {self.measure} {number(self.value)}, {self.side} {number(self.bound)} asked{floor}"


class Agreement(msgspec.Struct, frozen=True):
    """How near two models' next-token distributions are, position by position."""

    same: list[bool]
    """Whether both think the same token most likely."""
    divergence: list[float]
    """KL(reference ‖ other) in nats."""

    @property
    def top1(self) -> float:
        """Share of positions with the same most likely token."""
        return sum(self.same) / len(self.same)

    @property
    def kl(self) -> float:
        """Mean divergence in nats per token."""
        return sum(self.divergence) / len(self.divergence)


class Places(msgspec.Struct, frozen=True):
    """Which positions of which conversation are compared: the last ones, where the answer stands."""

    row_ids: list[str]
    counts: list[int]
    """Positions of each conversation, all at its end but the very last token, which predicts nothing."""

    @property
    def total(self) -> int:
        """Positions in all."""
        return sum(self.counts)

    def by_row(self, values: Sequence[float]) -> dict[str, float]:
        """Average values of positions over each conversation."""
        found, start = {}, 0
        for row_id, count in zip(self.row_ids, self.counts, strict=True):
            found[row_id] = sum(values[start : start + count]) / max(count, 1)
            start += count
        return found


def places(row_ids: Sequence[str], lengths: Sequence[int], wanted: int) -> Places:
    """Take the same number of last positions of each conversation, the fewest that give `wanted` in all.

    Args:
        lengths: tokens of each conversation; one of n tokens has n - 1 positions.
    """
    most = max(lengths, default=1) - 1
    each = next((n for n in range(1, most) if _total(lengths, n) >= wanted), most)
    return Places(list(row_ids), [min(each, length - 1) for length in lengths])


def compare(reference: "LogProbabilities", other: "LogProbabilities") -> Agreement:
    """Compare log-probabilities of two models at the same positions.

    Args:
        reference: (positions, vocabulary) in nats; may be a memory map.
        other: the same shape; a wider one is cut, since some files pad the vocabulary.
    """
    import numpy as np

    same: list[bool] = []
    divergence: list[float] = []
    width = reference.shape[1]
    for start in range(0, len(reference), CHUNK):
        p, q = reference[start : start + CHUNK], other[start : start + CHUNK, :width]
        same += (p.argmax(-1) == q.argmax(-1)).tolist()
        divergence += np.sum(np.exp(p, dtype=np.float64) * (p.astype(np.float64) - q), axis=-1).tolist()
    return Agreement(same, divergence)


def agreement_checks(
    file: str, found: Agreement, floor: Agreement, where: Places, top1: float, kl: float
) -> Iterator[Check]:
    """Check next-token agreement against its bounds."""
    by_row = where.by_row(found.divergence)
    worst = [f"{row_id} ({by_row[row_id]:.3f} nats)" for row_id in sorted(by_row, key=by_row.__getitem__)[::-1][:WORST]]
    yield Check(file, "next-token top-1 agreement", found.top1, "at least", top1, floor.top1, worst)
    yield Check(file, "mean divergence (nats per token)", found.kl, "at most", kl, floor.kl, worst)


def same_check(
    file: str,
    measure: str,
    pairs: Sequence[tuple[str, object, object]],
    bound: float,
    floor: float | None,
) -> Check:
    """Check the share of rows on which two things are equal; where there is nothing to compare, it fails.

    Args:
        pairs: (row id, as trained, as shipped).
    """
    differ = [(row_id, ours, theirs) for row_id, ours, theirs in pairs if ours != theirs]
    worst = [f"{row_id}: {_clipped(ours)} became {_clipped(theirs)}" for row_id, ours, theirs in differ[:WORST]]
    share = 1 - len(differ) / len(pairs) if pairs else 0.0
    return Check(file, measure, share, "at least", bound, floor, worst if pairs else ["there was nothing to compare"])


def loss_check(
    file: str, metric: str, trained: dict[str, float], shipped: dict[str, float], bound: float, floor: float
) -> Check:
    """Check how much of the task's metric is lost, as a mean over the rows, of scores where higher is better."""
    lost = {row_id: trained[row_id] - shipped[row_id] for row_id in trained}
    worst = [f"{r}: {trained[r]:.2f} became {shipped[r]:.2f}" for r in sorted(lost, key=lost.__getitem__)[::-1]]
    value = sum(lost.values()) / len(lost)
    named = [text for text, r in zip(worst, sorted(lost, key=lost.__getitem__)[::-1], strict=True) if lost[r] > 0]
    return Check(file, f"loss of {metric}", value, "at most", bound, floor, named[:WORST])


def _total(lengths: Sequence[int], each: int) -> int:
    return sum(min(each, length - 1) for length in lengths)


def _clipped(value: object) -> str:
    """Show where two long values begin; the whole stands in the files beside."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def number(value: float) -> str:
    """Write a value with as many digits as a person wants."""
    if float(value).is_integer() and abs(value) > 1:
        return f"{value:,.0f}"
    return f"{value:.4f}" if abs(value) < 0.01 and value else f"{value:.3f}"
