"""Judge one condition of the gate from the stored rows: passed, failed, or cannot tell and how many rows would.

Every condition is a difference against a line: the opponent's scores shifted by `by` or `margin`, or one number. So
`statistics.compare` and `statistics.judge` decide it, with the intervals of the evaluation itself.

Where the line is not 0, rows that all say the same deceive: 10 right of 10 have the interval 1 to 1. As scores lie in
0..1, the same judgement must also stand with two more rows of the best score and two of the worst, after the interval
of Agresti and Coull that adds two successes and two failures. Simulated, a model that stands exactly on the line passes
the plain interval up to 14 times in 100, and this at most 2.5 times in 100.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import msgspec

from tunemill.evaluation import statistics
from tunemill.evaluation.gate_settings import Condition
from tunemill.evaluation.metrics import LOWER_IS_BETTER, perplexity
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.statistics import FLOOR, POWER, Difference, Interval

Holds = Literal["passed", "failed", "cannot tell"]
_AIM = POWER + 0.05
"""Power that the formula aims at: that two resampled tests must agree, each with its own noise, costs a few points."""
_MOST = 10**9


class Column(msgspec.Struct, frozen=True):
    """Scores of one arm or file on one metric, ordered by row id, so that the order of the file changes nothing."""

    totals: Sequence[float]
    weights: Sequence[float]
    groups: Sequence[str]


class Finding(msgspec.Struct, frozen=True):
    """What the rows say about one condition, before it is put into words."""

    condition: Condition
    subject: str
    outcome: Holds
    value: Interval
    other: float | None
    gain: Difference
    """Against the opponent or the number, as the evaluation measures it."""
    line: Difference
    """The same, measured from the threshold."""
    rows_needed: int | None


def find(
    condition: Condition, subject: str, own: Column, opponent: Column | None, settings: EvaluateSettings
) -> Finding:
    """Measure the distance from the threshold and judge it; both columns hold the same rows in the same order."""
    lower = condition.metric in LOWER_IS_BETTER
    if opponent is None:
        level = math.log(condition.threshold) if lower else condition.threshold
        against = [level * weight for weight in own.weights]
        gain = line = _compare(own, against, lower, settings)
    else:
        shift = -condition.threshold if lower else condition.threshold
        against = [total + shift * weight for total, weight in zip(opponent.totals, own.weights, strict=True)]
        gain = _compare(own, opponent.totals, lower, settings)
        line = _compare(own, against, lower, settings) if shift else gain
    outcome = statistics.judge(line, settings.confidence)
    margins = _margins(condition, settings.confidence)
    if margins and outcome in ("better", "worse"):
        padded = _compare(*_padded(own, against, margins), lower, settings)
        outcome = outcome if statistics.judge(padded, settings.confidence) == outcome else "cannot tell"
    if outcome == "same" and (opponent is None or condition.threshold):
        outcome = "cannot tell"
    holds: Holds = {"better": "passed", "cannot tell": "cannot tell"}.get(outcome, "failed")  # type: ignore[assignment]
    return Finding(
        condition,
        subject,
        holds,
        _value(own, lower, settings),
        None if opponent is None else _value(opponent, lower, settings).value,
        gain,
        line,
        _rows_needed(line, margins, settings.confidence) if holds == "cannot tell" else None,
    )


def _compare(own: Column, against: Sequence[float], lower: bool, settings: EvaluateSettings) -> Difference:
    return statistics.compare(
        own.totals,
        against,
        own.weights,
        own.groups,
        lower_is_better=lower,
        confidence=settings.confidence,
        resamples=settings.resamples,
        seed=settings.seed,
    )


def _value(column: Column, lower: bool, settings: EvaluateSettings) -> Interval:
    """Estimate as the evaluation does: the same seed, so the same interval."""
    found = statistics.estimate(
        column.totals, column.weights, column.groups, settings.confidence, settings.resamples, settings.seed
    )
    return Interval(*(perplexity(x, 1) for x in (found.value, found.low, found.high))) if lower else found


def _margins(condition: Condition, confidence: float) -> list[float]:
    """Give how far each added row lies from the threshold: z²/2 of the best score and as many of the worst (95 %: 2).

    None where a score has no limits, or the line is 0: there the sign-flip test is exact whatever the scores, and the
    evaluation's own judgement stands.
    """
    if condition.metric in LOWER_IS_BETTER or not condition.threshold:
        return []
    worst = 0.0 if condition.opponent is None else -1.0
    count = math.ceil(NormalDist().inv_cdf(0.5 + confidence / 2) ** 2 / 2)
    return [extreme - condition.threshold for extreme in (1.0, worst) for _ in range(count)]


def _padded(own: Column, against: Sequence[float], margins: Sequence[float]) -> tuple[Column, list[float]]:
    """Add one group for each margin, as large as the mean group."""
    size = sum(own.weights) / len(set(own.groups))
    names = [f"{max(own.groups)} added {number}" for number in range(len(margins))]
    padded = Column(
        [*own.totals, *(margin * size for margin in margins)],
        [*own.weights, *(size for _ in margins)],
        [*own.groups, *names],
    )
    return padded, [*against, *(0.0 for _ in margins)]


def _rows_needed(line: Difference, margins: Sequence[float], confidence: float) -> int | None:
    """Give the rows that would tell 4 times in 5, at as many rows a group as now; None above a thousand million.

    The smallest number of groups n, more than there are and 10 at least, with

        n |δ| - step ≥ z(confidence) √(n (ω² + δ²)) + z(0.85) √(n ω²)

    where δ and ω² are the observed mean and variance of the groups' differences: the paired sample size
    n = (z + z)² ω² / δ² (arXiv 2411.00640) with the variance that the sign-flip test sees, and one step for scores that
    come in steps (for right/wrong scores 1, as in McNemar's test with continuity correction). The added groups count
    into the left side and the first root.
    """
    if not line.mean:
        return None
    z, power = NormalDist().inv_cdf(0.5 + confidence / 2), NormalDist().inv_cdf(_AIM)
    variance = line.groups * ((line.smallest or 0) / (z + NormalDist().inv_cdf(POWER))) ** 2
    square = variance + line.mean**2
    step = 1.0 if margins else math.sqrt(square * line.groups / line.differing)

    def told(groups: int) -> bool:
        total = groups * line.mean + sum(margins)
        reach = z * math.sqrt(groups * square + sum(margin**2 for margin in margins))
        return total * line.mean > 0 and abs(total) - step >= reach + power * math.sqrt(groups * variance)

    low, high = 0, FLOOR
    while not told(high):
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if told(middle) else (middle, high)
    return math.ceil(max(high, FLOOR, line.groups + 1) * line.rows / line.groups)
