"""Turn what the arms said into scores, scores into differences, differences into one verdict: pure, no model needed.

So a verdict can be made again from the stored rows, byte for byte.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from tunemill.evaluation import statistics
from tunemill.evaluation.arms import ARMS, OPPONENTS, Arm
from tunemill.evaluation.generation import Answer, Likelihood
from tunemill.evaluation.metrics import LOWER_IS_BETTER, TEXT_METRICS, Metric, perplexity
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.statistics import Difference, Interval, Outcome, Verdict
from tunemill.rows import Row


class Score(msgspec.Struct, frozen=True):
    """One arm's score on one row; a metric's value is Σ total / Σ weight over the rows."""

    row_id: str
    group: str
    """Rows of one user or conversation are resampled together."""
    arm: Arm
    metric: Metric
    total: float
    """0..1; for perplexity the nats of the right answer."""
    weight: int
    """1; for perplexity the tokens of the right answer."""


class ArmSummary(msgspec.Struct, frozen=True):
    """How one arm did, over all rows."""

    metrics: dict[str, Interval]
    failures: dict[str, int]
    """Rows that got no answer, by reason; each is in the metrics, as wrong."""
    unfinished: int
    """Answers that were cut off at `max_new_tokens`."""
    prompt_tokens: float
    """Mean over the rows."""
    new_tokens: float
    """Mean over the rows."""


class Compared(msgspec.Struct, frozen=True):
    """The tuned model against one opponent on one metric."""

    difference: Difference
    outcome: Outcome


class Shown(msgspec.Struct, frozen=True):
    """The few-shot prompt that was the opponent."""

    asked: int
    seed: int
    examples: list[str]
    """Row ids, in the order shown."""


class Summary(msgspec.Struct, frozen=True):
    """The whole answer, as `summary.json` holds it."""

    verdict: Verdict
    primary: Metric
    rows: int
    groups: int
    confidence: float
    few_shot: Shown
    arms: dict[Arm, ArmSummary]
    differences: dict[Arm, dict[str, Compared]]
    """By opponent and metric."""


class ArmResult(msgspec.Struct, frozen=True):
    """What one arm gave, in row order."""

    answers: list[Answer]
    likelihoods: list[Likelihood]
    """Empty where perplexity is not asked for."""


def group_of(row: Row) -> str:
    """Name what a row shares with others that resemble it: its user, else its conversation, else only itself."""
    return row.user or row.conversation or row.row_id


def score(rows: Sequence[Row], arm: Arm, result: ArmResult, vocabulary: int, settings: EvaluateSettings) -> list[Score]:
    """Score one arm on every row and metric; a failure is wrong.

    For perplexity, wrong is a uniform guess over the vocabulary: ln(vocabulary) nats for each token of the answer.
    """
    scores = []
    for metric in settings.metrics:
        weights = [1] * len(rows)
        if metric == "perplexity":
            weights = [likelihood.tokens for likelihood in result.likelihoods]
            totals = [x.tokens * math.log(vocabulary) if x.failure else x.nll for x in result.likelihoods]
        else:
            asked = {"fields": settings.fields} if metric == "field_accuracy" else {}
            texts = [answer.text for answer in result.answers]
            totals = TEXT_METRICS[metric](texts, [row.answer for row in rows], **asked)
        scores += [
            Score(row.row_id, group_of(row), arm, metric, total, weight)
            for row, total, weight in zip(rows, totals, weights, strict=True)
        ]
    return scores


def summarise(
    scores: Sequence[Score], results: Mapping[Arm, ArmResult], shown: Shown, settings: EvaluateSettings
) -> Summary:
    """Estimate every metric, compare the tuned model with both opponents, and conclude on the primary metric."""
    table = _table(scores)
    differences: dict[Arm, dict[str, Compared]] = {
        opponent: {metric: _compare(table, metric, opponent, settings) for metric in settings.metrics}
        for opponent in OPPONENTS
    }
    outcomes = [differences[opponent][settings.deciding].outcome for opponent in OPPONENTS]
    return Summary(
        verdict=statistics.conclude(*outcomes),
        primary=settings.deciding,
        rows=differences["base"][settings.deciding].difference.rows,
        groups=differences["base"][settings.deciding].difference.groups,
        confidence=settings.confidence,
        few_shot=shown,
        arms={arm: _arm(table, arm, results[arm], settings) for arm in ARMS},
        differences=differences,
    )


def _table(scores: Sequence[Score]) -> dict[tuple[Arm, Metric], list[Score]]:
    """Sort by row id, so that the same index is the same row in every column."""
    table: dict[tuple[Arm, Metric], list[Score]] = {}
    for entry in sorted(scores, key=lambda s: s.row_id):
        table.setdefault((entry.arm, entry.metric), []).append(entry)
    return table


def _compare(
    table: Mapping[tuple[Arm, Metric], list[Score]], metric: Metric, opponent: Arm, settings: EvaluateSettings
) -> Compared:
    tuned, other = table["tuned", metric], table[opponent, metric]
    difference = statistics.compare(
        [s.total for s in tuned],
        [s.total for s in other],
        [s.weight for s in tuned],
        [s.group for s in tuned],
        lower_is_better=metric in LOWER_IS_BETTER,
        confidence=settings.confidence,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return Compared(difference, statistics.judge(difference, settings.confidence))


def _arm(
    table: Mapping[tuple[Arm, Metric], list[Score]], arm: Arm, result: ArmResult, settings: EvaluateSettings
) -> ArmSummary:
    answers = result.answers
    unscored = [likelihood.failure for likelihood in result.likelihoods] or [None] * len(answers)
    reasons = [answer.failure or unknown for answer, unknown in zip(answers, unscored, strict=True)]
    failures = Counter(reason for reason in reasons if reason)
    return ArmSummary(
        metrics={metric: _estimate(table[arm, metric], metric, settings) for metric in settings.metrics},
        failures=dict(sorted(failures.items())),
        unfinished=sum(not answer.finished and answer.failure is None for answer in answers),
        prompt_tokens=sum(answer.prompt_tokens for answer in answers) / len(answers),
        new_tokens=sum(answer.new_tokens for answer in answers) / len(answers),
    )


def _estimate(column: Sequence[Score], metric: Metric, settings: EvaluateSettings) -> Interval:
    found = statistics.estimate(
        [s.total for s in column],
        [s.weight for s in column],
        [s.group for s in column],
        settings.confidence,
        settings.resamples,
        settings.seed,
    )
    if metric != "perplexity":
        return found
    return Interval(*(perplexity(value, 1) for value in (found.value, found.low, found.high)))
