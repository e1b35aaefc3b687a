"""Compare two arms on the same rows: a bootstrap interval, a sign-flip test, and a verdict that may be "cannot tell".

A metric's value is Σ total / Σ weight over rows: scores over 1 each, or nats over tokens for perplexity. Rows of one
conversation or user resemble each other, so whole groups are resampled, not rows.

The interval alone calls it a gain when 4 of 31 rows differ and all 4 for the better; four coin tosses agree that well
once in eight. So an outcome is called better or worse only when the interval excludes 0 *and* flipping the signs of the
groups' differences at random gives a difference as large in at most 1 - confidence of the draws (for right/wrong
scores: McNemar's test).
"""

import math
from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

Outcome = Literal["better", "worse", "same", "cannot tell"]
Verdict = Literal["better", "not better", "cannot tell"]

FLOOR = 10
"""Groups below which nothing is told: with fewer, a bootstrap interval is too narrow to be believed."""
POWER = 0.8
"""Share of repetitions in which the rows that `needed` names would show the observed difference."""
_CELLS = 2_000_000


class Interval(msgspec.Struct, frozen=True):
    """One arm's value of one metric, with its bootstrap interval."""

    value: float
    low: float
    high: float


class Difference(msgspec.Struct, frozen=True):
    """The gain of the tuned model over one opponent: above 0 the tuned model is better, whatever the metric.

    In units of the score; for perplexity in nats per token (perplexity falls by the factor e^mean).
    """

    mean: float
    low: float
    high: float
    p: float
    """Two-sided p-value of the sign-flip test."""
    rows: int
    groups: int
    differing: int
    """Groups in which the two do not have the same score."""
    needed: int | None
    """Groups that would show a difference of this size 4 times in 5, None where the difference is 0 or has no
    spread: groups · ((z(confidence) + z(power)) · standard error / mean)²."""
    smallest: float | None
    """Smallest difference that this many groups show 4 times in 5, None where there is no spread to tell it from:
    (z(confidence) + z(power)) · standard error."""


def estimate(
    totals: Sequence[float],
    weights: Sequence[float],
    groups: Sequence[str],
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Give Σ totals / Σ weights with the bootstrap interval over groups."""
    top, bottom = _by_group(totals, groups), _by_group(weights, groups)
    low, high = _percentiles(top, bottom, confidence, resamples, seed)
    return Interval(float(top.sum() / bottom.sum()), low, high)


def compare(
    tuned: Sequence[float],
    other: Sequence[float],
    weights: Sequence[float],
    groups: Sequence[str],
    lower_is_better: bool = False,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Measure how much better the tuned model is on the same rows, row by row."""
    sign = -1.0 if lower_is_better else 1.0
    top = _by_group([sign * (t - o) for t, o in zip(tuned, other, strict=True)], groups)
    bottom = _by_group(weights, groups)
    mean = float(top.sum() / bottom.sum())
    low, high = _percentiles(top, bottom, confidence, resamples, seed)
    reach = _reach(confidence) * _standard_error(top, bottom)
    spread = 0 < reach < math.inf
    return Difference(
        mean=mean,
        low=low,
        high=high,
        p=_sign_flip(top, resamples, seed),
        rows=len(groups),
        groups=len(top),
        differing=int((top != 0).sum()),
        needed=math.ceil(len(top) * (reach / mean) ** 2) if mean and spread else None,
        smallest=reach if spread else None,
    )


def judge(difference: Difference, confidence: float = 0.95) -> Outcome:
    """Say what a difference shows.

    - fewer than 10 groups: "cannot tell";
    - every group has the same score: "same";
    - sign-flip p-value above 1 - confidence: "cannot tell";
    - interval above 0: "better"; below 0: "worse"; else "cannot tell".
    """
    if difference.groups < FLOOR:
        return "cannot tell"
    if difference.differing == 0:
        return "same"
    if difference.p > 1 - confidence + 1e-12:
        return "cannot tell"
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "cannot tell"


def conclude(against_base: Outcome, against_few_shot: Outcome) -> Verdict:
    """Join both outcomes on the primary metric.

    - "better": better than the base and better than few-shot;
    - "not better": worse than either, or the same as either;
    - "cannot tell": everything else.

    Both must hold, so neither needs a correction for there being two.
    """
    outcomes = {against_base, against_few_shot}
    if outcomes == {"better"}:
        return "better"
    return "not better" if outcomes & {"worse", "same"} else "cannot tell"


def _by_group(values: Sequence[float], groups: Sequence[str]) -> "Array":
    """Sum the values of each group; groups in sorted order, so that row order changes nothing."""
    import numpy as np

    names, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros(len(names))
    np.add.at(sums, index, np.asarray(values, dtype=np.float64))
    return sums


def _percentiles(top: "Array", bottom: "Array", confidence: float, resamples: int, seed: int) -> tuple[float, float]:
    """Give the bootstrap percentile interval of Σ top / Σ bottom, expanded for few groups.

    A plain percentile interval is a normal interval with the variance's divisor n: too narrow when groups are few.
    The tail is therefore taken at Φ(-t · √(G/(G-1))) with t of Student's distribution, as for a mean.
    """
    import numpy as np
    from scipy.special import stdtrit

    count = len(top)
    if count < 2:
        return -math.inf, math.inf
    rng = np.random.default_rng(seed)
    ratios = np.concatenate(
        [
            top[drawn].sum(axis=1) / bottom[drawn].sum(axis=1)
            for size in _chunks(resamples, count)
            for drawn in [rng.integers(0, count, size=(size, count))]
        ]
    )
    student = float(stdtrit(count - 1, 0.5 + confidence / 2))
    tail = NormalDist().cdf(-student * math.sqrt(count / (count - 1)))
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return float(low), float(high)


def _sign_flip(top: "Array", resamples: int, seed: int) -> float:
    """Give the share of random sign patterns whose sum is as far from 0 as the observed one, itself counted."""
    import numpy as np

    rng = np.random.default_rng(seed)
    bound = abs(top.sum()) * (1 - 1e-9)
    as_far = 0
    for size in _chunks(resamples, len(top)):
        signs = rng.integers(0, 2, size=(size, len(top)), dtype=np.int8) * 2.0 - 1.0
        as_far += int((np.abs(signs @ top) >= bound).sum())
    return (1 + as_far) / (1 + resamples)


def _standard_error(top: "Array", bottom: "Array") -> float:
    """Give the standard error of Σ top / Σ bottom over groups, from the linearised residuals."""
    count = len(top)
    if count < 2:
        return math.inf
    residuals = top - bottom * (top.sum() / bottom.sum())
    return float(math.sqrt(count / (count - 1) * float((residuals**2).sum())) / bottom.sum())


def _reach(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2) + NormalDist().inv_cdf(POWER)


def _chunks(resamples: int, width: int) -> Iterator[int]:
    """Split the resamples so that no drawn table has more than two million cells (16 MB)."""
    size = max(1, _CELLS // width)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)
