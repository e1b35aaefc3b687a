"""Score answers against references, one number per row: pure functions `(predictions, references) -> scores`.

Every score lies in 0..1 and an empty prediction scores 0, so that a failure counts as wrong without a special case.
Perplexity is not here: it needs the model, not its text (see `generation.likelihoods`).
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import orjson

from tunemill.errors import DataError

Metric = Literal["perplexity", "exact_match", "token_f1", "rouge_l", "json_valid", "field_accuracy"]
LOWER_IS_BETTER: frozenset[str] = frozenset({"perplexity"})

_ABSENT = object()


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """Give 1 where the texts are equal, character for character, but for white space around them."""
    return [float(p.strip() == r.strip() != "") for p, r in zip(predictions, references, strict=True)]


def token_f1(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """Give the harmonic mean of precision and recall over words, order ignored; words as in `words`."""
    return [_f1(words(p), words(r)) for p, r in zip(predictions, references, strict=True)]


def rouge_l(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """Give ROUGE-L: F1 of the longest common subsequence of words.

    The words are ours, not rouge_score's: its own tokenizer keeps only a-z and 0-9, which scores other scripts 0.
    """
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Words())
    return [
        float(scorer.score(reference, prediction)["rougeL"].fmeasure)
        for prediction, reference in zip(predictions, references, strict=True)
    ]


def json_valid(predictions: Sequence[str], references: Sequence[str]) -> list[float]:
    """Give 1 where the whole text is one JSON object; white space around it is JSON, a code fence or a word is not."""
    return [float(_object(p) is not None) for p, _ in zip(predictions, references, strict=True)]


def field_accuracy(predictions: Sequence[str], references: Sequence[str], fields: Sequence[str]) -> list[float]:
    """Give the share of `fields` that are right: equal to the reference's, or absent in both; 0 for invalid JSON.

    Raises:
        DataError: a reference is no JSON object, or no reference has one of the fields (a field absent everywhere
            would be right everywhere).
    """
    expected = [_object(reference) for reference in references]
    for number, answer in enumerate(expected, 1):
        if answer is None:
            raise DataError(
                f"evaluate.metrics: field_accuracy needs answers that are JSON objects; answer {number} of "
                f"{len(references)} is {references[number - 1][:80]!r}; leave the metric out, or mend the rows"
            )
    seen = {name for answer in expected if answer for name in answer}
    if unknown := [name for name in fields if name not in seen]:
        raise DataError(
            f"evaluate.fields: {', '.join(unknown)} stands in none of {len(references)} test answers; "
            f"they have {', '.join(sorted(seen)) or 'no fields'}"
        )
    return [
        _share_right(_object(prediction), answer or {}, fields)
        for prediction, answer in zip(predictions, expected, strict=True)
    ]


def words(text: str) -> list[str]:
    r"""Split into runs of letters, digits and underscore (`\w+`, any script), case folded; punctuation is dropped."""
    return re.findall(r"\w+", text.casefold())


def perplexity(nll: float, tokens: float) -> float:
    """Turn summed nats and the tokens they are summed over into perplexity, at least 1; infinite past the range."""
    mean = nll / tokens
    return math.exp(mean) if mean < 700 else math.inf


class _Words:
    """Hand `words` to rouge_score, which asks for an object."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def _f1(prediction: list[str], reference: list[str]) -> float:
    shared = sum((Counter(prediction) & Counter(reference)).values())
    return 2 * shared / (len(prediction) + len(reference)) if shared else 0.0


def _object(text: str) -> dict[str, Any] | None:
    """Parse strictly (no NaN, no trailing text); None where the text is not one JSON object."""
    try:
        value = orjson.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _share_right(prediction: dict[str, Any] | None, reference: dict[str, Any], fields: Sequence[str]) -> float:
    if prediction is None:
        return 0.0
    return sum(_same(prediction.get(f, _ABSENT), reference.get(f, _ABSENT)) for f in fields) / len(fields)


def _same(left: Any, right: Any) -> bool:
    """Compare as JSON does: 1 equals 1.0, but true is not 1, which Python believes."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[name], right[name]) for name in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


TEXT_METRICS: dict[str, Callable[..., list[float]]] = {
    "exact_match": exact_match,
    "token_f1": token_f1,
    "rouge_l": rouge_l,
    "json_valid": json_valid,
    "field_accuracy": field_accuracy,
}
