"""Decide whether a tuned model ships, from stored scores alone: no model, no clock, the same bytes every time.

The first of these that applies:

    INVALID      something cannot be judged: verification missing or failed, no rows, an arm, metric or row missing, a
                 score that is no number; then nothing is judged
    REJECT       a condition is shown not to hold; every one that is, is a reason
    CANNOT_TELL  a condition is not shown to hold, nor not to hold; says how many rows would tell
    PROMOTE      every condition is shown to hold

Conditions are judged on the tuned model as evaluated. `at_least` must hold for every file that ships as well, on the
rows that verify asked it. The comparisons with opponents are not repeated there: that a file is no worse than the model
it was made from is verify's work. Perplexity is not scored on files.

All conditions must hold, so none needs a correction for there being many.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
import orjson

from tunemill.evaluation import gate_checks, gate_text
from tunemill.evaluation.gate_checks import Column, Finding, Holds
from tunemill.evaluation.gate_evidence import Facts, ShippedFile, Verified, by_arm, faults, scored_on_files
from tunemill.evaluation.gate_settings import Condition, GateSettings
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.summary import Score

Decision = Literal["PROMOTE", "REJECT", "CANNOT_TELL", "INVALID"]
TUNED = "fine-tuned"


class Check(msgspec.Struct, frozen=True):
    """One condition, judged on the tuned model or on a file that ships."""

    rule: int
    """Which rule of the YAML, from 1; 0 for the default."""
    name: str
    subject: str
    """`fine-tuned`, or the name of a file."""
    outcome: Holds
    value: float
    """The subject's value of the metric."""
    other: float | None
    """The opponent's; None where the value itself is judged."""
    difference: float | None
    """The gain over the opponent, above 0 in favour of the subject; perplexity: nats a token."""
    low: float | None
    """Of the difference, or of the value where there is no opponent; None where unbounded."""
    high: float | None
    threshold: float
    """What the difference must lie above, or what the value must reach (perplexity: stay below)."""
    rows: int
    groups: int
    smallest: float | None
    """Distance from the threshold that so many rows show 4 times in 5, at the observed spread; perplexity: nats."""
    rows_needed: int | None
    """Rows that would tell 4 times in 5, were the difference as observed; None where told, or where it is 0."""
    sentence: str


class Ships(msgspec.Struct, frozen=True):
    """A file that was judged to ship or not."""

    name: str
    precision: str
    instead_of: str | None
    """The precision that was asked for and failed, where this one stands in for it."""


class GateVerdict(msgspec.Struct, frozen=True):
    """The whole answer, as gate.json holds it."""

    verdict: Decision
    reasons: list[str]
    """INVALID: what cannot be judged; REJECT: what does not hold; CANNOT_TELL: what is not shown; PROMOTE: none."""
    rows: int
    """Test rows."""
    confidence: float
    rows_needed: int | None
    """CANNOT_TELL: rows at which each open condition is told 4 times in 5, None where one has no such number."""
    files: list[Ships]
    checks: list[Check]
    """Empty when INVALID."""


def decide(
    scores: Sequence[Score], facts: Facts, verified: Verified | None, gate: GateSettings, evaluate: EvaluateSettings
) -> GateVerdict:
    """Judge every condition and join them, in the order that the module's docstring gives.

    Args:
        scores: of scores.jsonl, in any order.
        facts: of the summary.json beside it.
        verified: what verify found, None where it did not run.
        evaluate: the settings of that evaluation: they seed the intervals, which are its own.
    """
    conditions = gate.conditions(evaluate)
    rows = len({score.row_id for score in scores})
    files = [] if verified is None else [Ships(file.name, file.precision, file.instead_of) for file in verified.files]
    if wrong := faults(scores, facts, verified, conditions, evaluate):
        return GateVerdict("INVALID", wrong, rows, evaluate.confidence, None, files, [])
    assert verified is not None, "a missing verification is a fault"
    found = [finding for condition in conditions for finding in _find(condition, by_arm(scores), verified, evaluate)]
    checks = [_check(finding, evaluate.confidence) for finding in found]
    failed = [check.sentence for check in checks if check.outcome == "failed"]
    open_ = [check for check in checks if check.outcome == "cannot tell"]
    if failed:
        return GateVerdict("REJECT", failed, rows, evaluate.confidence, None, files, checks)
    if open_:
        reasons = [check.sentence for check in open_]
        return GateVerdict("CANNOT_TELL", reasons, rows, evaluate.confidence, _most(open_), files, checks)
    return GateVerdict("PROMOTE", [], rows, evaluate.confidence, None, files, checks)


def to_json(verdict: GateVerdict) -> bytes:
    """Write as one JSON object; the same verdict gives the same bytes."""
    return orjson.dumps(msgspec.to_builtins(verdict), option=orjson.OPT_INDENT_2) + b"\n"


def from_json(data: bytes) -> GateVerdict:
    """Read what `to_json` wrote."""
    return msgspec.json.decode(data, type=GateVerdict)


def text(verdict: GateVerdict) -> str:
    """Write for a person, in Markdown that a terminal shows as well: the verdict first, then why, then what ships."""
    blocks = [f"# {verdict.verdict}: {_headline(verdict)}", _bullets(verdict.reasons)]
    if told := [check.sentence for check in verdict.checks if check.sentence not in verdict.reasons]:
        blocks += ["Also found:" if verdict.reasons else "Shown:", _bullets(told)]
    if verdict.files:
        title = "Files that ship:" if verdict.verdict == "PROMOTE" else "Files that do not ship:"
        blocks += [title, _bullets(_file(file) for file in verdict.files)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _find(
    condition: Condition,
    table: Mapping[tuple[str, str], Mapping[str, Score]],
    verified: Verified,
    settings: EvaluateSettings,
) -> list[Finding]:
    """Judge a condition on the tuned model, and on the files where they are scored."""
    tuned = table["tuned", condition.metric]
    opponent = _column(table[condition.opponent, condition.metric]) if condition.opponent else None
    found = [gate_checks.find(condition, TUNED, _column(tuned), opponent, settings)]
    if scored_on_files(condition):
        found += [
            gate_checks.find(condition, file.name, _file_column(file, tuned, condition), None, settings)
            for file in verified.files
        ]
    return found


def _column(scores: Mapping[str, Score]) -> Column:
    own = list(scores.values())
    return Column([score.total for score in own], [score.weight for score in own], [score.group for score in own])


def _file_column(file: ShippedFile, tuned: Mapping[str, Score], condition: Condition) -> Column:
    """Take the file's scores in the order of the row ids; which rows belong together is the evaluation's knowledge."""
    scores = sorted(file.scores[condition.metric].items())
    return Column([score for _, score in scores], [1] * len(scores), [tuned[row].group for row, _ in scores])


def _check(found: Finding, confidence: float) -> Check:
    compared = found.condition.opponent is not None
    low, high = (found.gain.low, found.gain.high) if compared else (found.value.low, found.value.high)
    return Check(
        rule=found.condition.rule,
        name=found.condition.name,
        subject=found.subject,
        outcome=found.outcome,
        value=found.value.value,
        other=found.other,
        difference=found.gain.mean if compared else None,
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        threshold=found.condition.threshold,
        rows=found.gain.rows,
        groups=found.gain.groups,
        smallest=found.line.smallest,
        rows_needed=found.rows_needed,
        sentence=gate_text.sentence(found, confidence),
    )


def _most(checks: Sequence[Check]) -> int | None:
    needed = [check.rows_needed for check in checks if check.rows_needed is not None]
    return max(needed) if len(needed) == len(checks) else None


def _headline(verdict: GateVerdict) -> str:
    if verdict.verdict == "INVALID":
        return "the rules cannot be judged, so nothing ships"
    if verdict.verdict == "PROMOTE":
        return f"every condition holds on {verdict.rows:,} test rows"
    share = f"{len(verdict.reasons)} of {len(verdict.checks)} conditions"
    if verdict.verdict == "REJECT":
        return f"{share} not met on {verdict.rows:,} test rows"
    tell = (
        "no number of rows can be named" if verdict.rows_needed is None else f"about {verdict.rows_needed:,} would tell"
    )
    return f"{share} not shown on {verdict.rows:,} test rows; {tell}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _file(file: Ships) -> str:
    stands_in = f", because {file.instead_of} did not pass verification" if file.instead_of else ""
    return f"{file.name} ({file.precision}{stands_in})"
