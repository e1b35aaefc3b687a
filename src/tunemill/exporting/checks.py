"""Turn what the adapter, the merged model and the GGUF said into checks and scores: pure, no model needed."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tunemill.evaluation.gate_evidence import ShippedFile
from tunemill.evaluation.generation import Answer
from tunemill.evaluation.metrics import TEXT_METRICS, Metric
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.summary import ArmResult, score
from tunemill.exporting import proof
from tunemill.exporting.proof import Check, Places, compare
from tunemill.exporting.verify_settings import Bounds
from tunemill.rows import Row

Said = Mapping[str, Answer]
"""Row id → what was answered."""


class Asked(msgspec.Struct, frozen=True):
    """What was asked of every file, and how the adapter as trained took it."""

    rows: list[Row]
    prompts: dict[str, list[int]]
    """Row id → token ids under training's tokenizer and template."""
    forged: frozenset[str]
    """Rows whose text spells a control token: training reads it as text, and every server as the token."""
    places: Places
    trained: Path
    """Log-probabilities of the adapter, (positions, vocabulary)."""
    again: Path
    """The same, run in another way: the noise floor."""
    answers: dict[str, Answer]
    """The adapter's answers as they were evaluated."""
    answers_again: dict[str, Answer]
    settings: EvaluateSettings

    @property
    def tooled(self) -> frozenset[str]:
        """Rows whose prompt holds tools or calls: llama.cpp is given their token ids, since it renders them otherwise.

        Ollama's TEMPLATE, as it is exported, has no place for them at all, and Ollama then refuses tools.
        """
        return frozenset(row.row_id for row in self.rows if row.calls)

    def distance(self, path: Path) -> proof.Agreement:
        """Compare stored log-probabilities with the adapter's."""
        return compare(load(self.trained), load(path))


def load(path: Path) -> Any:
    """Map stored log-probabilities, (positions, vocabulary), without reading them all."""
    import numpy as np

    return np.load(path, mmap_mode="r")


def own_noise(distributions: Path, repeated: Path) -> proof.Agreement:
    """Compare log-probabilities with a second computation of the first of them."""
    again = load(repeated)
    return compare(load(distributions)[: len(again)], again)


def enough(asked: Asked, prompts: int, positions: int) -> Iterator[Check]:
    """Check that there was enough to compare: a proof on two rows proves nothing."""
    yield Check("all files", "test prompts", len(asked.places.row_ids), "at least", prompts, None)
    yield Check("all files", "token positions", asked.places.total, "at least", positions, None)


def checks(
    asked: Asked,
    file: str,
    prompts: Mapping[str, list[int]],
    near: proof.Agreement,
    floor: proof.Agreement,
    said: Said,
    bounds: Bounds,
) -> Iterator[Check]:
    """Hold one file against the adapter: its prompts, its next tokens, its answers, their ends, and their score.

    Args:
        prompts: row id → token ids of the prompt, as the file's own template and tokenizer make them.
        near: how its next-token distributions lie to the adapter's.
        floor: how those lie of what is the same by nature, computed in two ways.
        said: greedy answers to the same rows.
    """
    ids = [row.row_id for row in asked.rows]
    ours, again = asked.answers, asked.answers_again
    rendered = [(i, asked.prompts[i], prompts.get(i)) for i in ids if asked.prompts[i] and i not in asked.forged]
    if rendered or not asked.tooled:
        yield proof.same_check(file, "prompts with the same token ids", rendered, 1.0, None)
    yield from proof.agreement_checks(file, near, floor, asked.places, bounds.top1, bounds.divergence)
    texts = [(i, ours[i].text, said[i].text) for i in ids]
    noise = _share([(ours[i].text, again[i].text) for i in ids])
    yield proof.same_check(file, "greedy answers with the same text", texts, bounds.same_text, noise)
    ends = [(i, ours[i].finished, said[i].finished) for i in ids]
    noise = _share([(ours[i].finished, again[i].finished) for i in ids])
    yield proof.same_check(file, "answers that end as the adapter's", ends, bounds.stops, noise)
    for metric in scored(asked.settings):
        trained, shipped = scores(asked, ours)[metric], scores(asked, said)[metric]
        spread = proof.loss_check(file, metric, trained, scores(asked, again)[metric], 0, 0).value
        yield proof.loss_check(file, metric, trained, shipped, bounds.score_loss, abs(spread))


def scored(settings: EvaluateSettings) -> list[Metric]:
    """Name the metric whose loss is bounded: the deciding one, or the first of texts where perplexity decides.

    Where only perplexity is measured there is none: the divergence bounds it.
    """
    texts = [metric for metric in (settings.deciding, *settings.metrics) if metric in TEXT_METRICS]
    return texts[:1]


def shipped(asked: Asked, name: str, precision: str, said: Said, instead_of: str | None = None) -> ShippedFile:
    """Score a file's own answers, for the gate."""
    return ShippedFile(name, precision, scores(asked, said), instead_of)


def scores(asked: Asked, said: Said) -> dict[str, dict[str, float]]:
    """Score answers as the evaluation does, on every metric of texts: metric → row id → score in 0..1."""
    texts = tuple(metric for metric in asked.settings.metrics if metric in TEXT_METRICS)
    settings = asked.settings.model_copy(update={"metrics": texts})
    found = score(asked.rows, "tuned", ArmResult([said[row.row_id] for row in asked.rows], []), 0, settings)
    return {m: {s.row_id: s.total for s in found if s.metric == m} for m in texts}


def failures(found: Sequence[Check]) -> list[str]:
    """Say which checks failed, each with its worst prompts."""
    return [
        "\n".join([check.sentence, *(f"    {line}" for line in check.worst)]) for check in found if not check.passed
    ]


def _share(pairs: Sequence[tuple[object, object]]) -> float:
    return sum(a == b for a, b in pairs) / max(len(pairs), 1)
