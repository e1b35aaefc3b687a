"""Set tonight's model beside the one in use, on the test rows that both were scored on.

A row keeps its side from night to night, so what the champion was tested on no later model has trained. Both were
scored when they were made; no model is asked again.
"""

from collections.abc import Sequence

from tunemill.artifacts import FrozenModel
from tunemill.evaluation import statistics
from tunemill.evaluation.gate_evidence import by_arm
from tunemill.evaluation.metrics import LOWER_IS_BETTER, Metric
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.statistics import FLOOR, Outcome
from tunemill.evaluation.summary import Score


class Beside(FrozenModel):
    """What the shared rows show about tonight's model and the champion."""

    version: int
    """The champion's."""
    metric: Metric
    outcome: Outcome
    rows: int
    gain: float = 0.0
    """Above 0 tonight's is better; points of the metric, for perplexity nats a token."""
    low: float = 0.0
    high: float = 0.0

    @property
    def sentence(self) -> str:
        """Say it to a person."""
        against = f"champion version {self.version} on {self.rows:,} test rows that both were scored on"
        if self.rows < FLOOR:
            return f"cannot be told from {against}; {FLOOR} are needed"
        words = {"better": "better than", "worse": "worse than", "same": "the same as"}
        return (
            f"{words.get(self.outcome, 'cannot be told from')} {against}: {self.metric} {self.gain:+.3f} "
            f"({self.low:+.3f} to {self.high:+.3f})"
        )


def beside(tonight: Sequence[Score], champion: Sequence[Score], version: int, asked: EvaluateSettings) -> Beside:
    """Compare the tuned arms of two evaluations by tonight's deciding metric, row by row.

    Rows whose weight differs, as the tokens of an answer do under another tokenizer, are not compared.
    """
    metric = asked.deciding
    own, other = (by_arm(scores).get(("tuned", metric), {}) for scores in (tonight, champion))
    shared = [row for row in own if row in other and own[row].weight == other[row].weight]
    if not shared:
        return Beside(version=version, metric=metric, outcome="cannot tell", rows=0)
    found = statistics.compare(
        [own[row].total for row in shared],
        [other[row].total for row in shared],
        [own[row].weight for row in shared],
        [own[row].group for row in shared],
        lower_is_better=metric in LOWER_IS_BETTER,
        confidence=asked.confidence,
        resamples=asked.resamples,
        seed=asked.seed,
    )
    return Beside(
        version=version,
        metric=metric,
        outcome=statistics.judge(found, asked.confidence),
        rows=found.rows,
        gain=found.mean,
        low=found.low,
        high=found.high,
    )
