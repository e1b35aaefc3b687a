"""Say what the gate decides from, and what of it cannot be believed: each fault names the rule that it spoils.

The gate never repairs: a score that is missing is not taken for a wrong answer, nor left out.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from tunemill.evaluation.gate_settings import Condition
from tunemill.evaluation.metrics import LOWER_IS_BETTER, TEXT_METRICS, perplexity
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.summary import Score

Table = dict[tuple[str, str], dict[str, Score]]
"""(arm, metric) → row id → score."""


class StoredValue(msgspec.Struct, frozen=True):
    """One arm's value of one metric; None where it was no finite number."""

    value: float | None


class StoredArm(msgspec.Struct, frozen=True):
    """What summary.json says of one arm."""

    metrics: dict[str, StoredValue]


class Facts(msgspec.Struct, frozen=True):
    """What summary.json says of its scores; the scores are held against it. Decodes from the file itself."""

    rows: int
    confidence: float
    arms: dict[str, StoredArm]


class ShippedFile(msgspec.Struct, frozen=True):
    """A file that ships, with its own scores."""

    name: str
    precision: str
    """Number format of the weights, such as q4_k_m."""
    scores: dict[str, dict[str, float]]
    """Metric → row id → score in 0..1, by the file itself; a failed answer is 0, never left out."""
    instead_of: str | None = None
    """The precision that was asked for and failed, where this one stands in for it."""


class Verified(msgspec.Struct, frozen=True):
    """What verify found."""

    passed: bool
    failed: tuple[str, ...]
    """Steps over their bound."""
    rows: tuple[str, ...]
    """Ids of the test rows that every file was asked."""
    files: tuple[ShippedFile, ...]


def read_scores(lines: Iterable[Mapping[str, Any]]) -> list[Score]:
    """Take the objects of scores.jsonl; null, as which JSON writes what is no number, becomes NaN and so INVALID."""
    return [msgspec.convert({**line, "total": math.nan} if line["total"] is None else line, Score) for line in lines]


def by_arm(scores: Sequence[Score]) -> Table:
    """Sort into columns, each ordered by row id."""
    table: Table = {}
    for entry in sorted(scores, key=lambda score: score.row_id):
        table.setdefault((entry.arm, entry.metric), {})[entry.row_id] = entry
    return table


def scored_on_files(condition: Condition) -> bool:
    """Say whether a condition is judged on the files that ship as well."""
    return condition.kind == "at_least" and condition.metric in TEXT_METRICS


def faults(
    scores: Sequence[Score],
    facts: Facts,
    verified: Verified | None,
    conditions: Sequence[Condition],
    settings: EvaluateSettings,
) -> list[str]:
    """List why the conditions cannot be judged; empty when they can."""
    if not scores:
        return [*_unverified(verified), "the evaluation scored 0 test rows; run evaluate again"]
    table = by_arm(scores)
    rows = {entry.row_id for entry in scores}
    found = [*_unverified(verified), *_foreign(table, scores, rows, facts, settings)]
    for condition in conditions:
        spoilt = _column_faults(condition, table, rows, facts)
        if verified is not None and scored_on_files(condition):
            spoilt += [fault for file in verified.files for fault in _file_faults(file, condition.metric, verified)]
        rule = f"rule {condition.rule}" if condition.rule else "the default rule"
        found += [f"{rule} ({condition.name}) cannot be judged: {fault}" for fault in spoilt]
    if verified is not None and (strange := set(verified.rows) - rows):
        found.append(
            f"the files that ship were asked {len(strange):,} rows that the evaluation was not, first {min(strange)}; "
            "run verify on this evaluation"
        )
    return list(dict.fromkeys(found))


def _unverified(verified: Verified | None) -> list[str]:
    if verified is None:
        return ["verification is missing: nothing shows that the exported files are the model that was evaluated"]
    if verified.failed or not verified.passed:
        steps = ", ".join(verified.failed) or "a step that is not named"
        return [f"verification failed at {steps}: the exported files are not the model that was evaluated"]
    return [] if verified.files else ["verification names no file that ships; run export and verify"]


def _foreign(
    table: Table, scores: Sequence[Score], rows: set[str], facts: Facts, settings: EvaluateSettings
) -> list[str]:
    found = []
    if twice := len(scores) - sum(len(column) for column in table.values()):
        found.append(f"{twice:,} of {len(scores):,} stored scores stand there twice")
    if len(rows) != facts.rows:
        found.append(f"scores.jsonl holds {len(rows):,} rows and summary.json speaks of {facts.rows:,}")
    if facts.confidence != settings.confidence:
        found.append(
            f"the evaluation was made at confidence {facts.confidence:g} and the configuration says "
            f"{settings.confidence:g}"
        )
    return found


def _column_faults(condition: Condition, table: Table, rows: set[str], facts: Facts) -> list[str]:
    metric = condition.metric
    arms = ["tuned", *([condition.opponent] if condition.opponent else [])]
    found = [fault for arm in arms if (fault := _column_fault(arm, metric, table, rows, facts))]
    if found or not condition.opponent:
        return found
    own, other = table["tuned", metric], table[condition.opponent, metric]
    unlike = [row for row in sorted(rows) if (own[row].weight, own[row].group) != (other[row].weight, other[row].group)]
    return [f"row {unlike[0]} is not the same row for tuned and {condition.opponent}"] if unlike else []


def _column_fault(arm: str, metric: str, table: Table, rows: set[str], facts: Facts) -> str | None:
    column = table.get((arm, metric))
    if column is None:
        return f"no score of {metric} is stored for the arm {arm}"
    if lost := rows - column.keys():
        return f"{arm} lacks the score of {len(lost):,} of {len(rows):,} rows, first {min(lost)}"
    bounded = metric in TEXT_METRICS
    for row, entry in column.items():
        if not math.isfinite(entry.total) or entry.weight <= 0 or (bounded and not 0 <= entry.total <= entry.weight):
            return f"{arm} scored {entry.total:g} (weight {entry.weight}) on row {row}, which is no {metric}"
    value = math.fsum(entry.total for entry in column.values()) / sum(entry.weight for entry in column.values())
    value = perplexity(value, 1) if metric in LOWER_IS_BETTER else value
    if not math.isfinite(value):
        return f"{arm} has no finite {metric}"
    stored = facts.arms[arm].metrics.get(metric) if arm in facts.arms else None
    if stored is None or stored.value is None or not math.isclose(value, stored.value, rel_tol=1e-9, abs_tol=1e-12):
        said = "nothing" if stored is None or stored.value is None else f"{stored.value:.6g}"
        return f"the rows of {arm} give {value:.6g} and summary.json says {said}"
    return None


def _file_faults(file: ShippedFile, metric: str, verified: Verified) -> list[str]:
    scores = file.scores.get(metric)
    if not scores:
        return [f"verify did not score {file.name} on {metric}"]
    if unlike := scores.keys() ^ set(verified.rows):
        return [
            f"the scores of {file.name} are not those of the {len(verified.rows):,} rows asked, first {min(unlike)}"
        ]
    wrong = {row: score for row, score in scores.items() if not 0 <= score <= 1}
    return [f"{file.name} scored {score:g} on row {row}, which is no {metric}" for row, score in sorted(wrong.items())][
        :1
    ]
