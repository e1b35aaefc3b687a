"""Put a finding of the gate into one sentence that a person can act on."""

import math
from collections.abc import Callable

from tunemill.evaluation.gate_checks import Finding
from tunemill.evaluation.metrics import LOWER_IS_BETTER
from tunemill.evaluation.statistics import FLOOR, Difference

NAMES = {"base": "the base", "few_shot": "few-shot prompting"}


def sentence(found: Finding, confidence: float) -> str:
    """Say what was found, with its number, its interval and its rows."""
    opening = _value_opening(found) if found.condition.opponent is None else _opponent_opening(found)
    return f"{found.condition.metric}: {opening}{_numbers(found, confidence)}.{_hint(found, confidence)}"


def number(value: float) -> str:
    """Write with three decimals, fewer for large numbers."""
    return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"


def signed(value: float) -> str:
    """Write with the sign that tells a gain from a loss."""
    return f"+{number(value)}" if value > 0 else number(value)


def _opponent_opening(found: Finding) -> str:
    condition, gain = found.condition, found.gain
    assert condition.opponent is not None, "only comparisons come here"
    other, by = NAMES[condition.opponent], f"{abs(condition.threshold):g}"
    if condition.kind == "not_worse_than":
        return {
            "passed": f"less than {by} worse than {other}",
            "failed": f"worse than {other} by more than {by}",
            "cannot tell": f"cannot tell whether it is less than {by} worse than {other}",
        }[found.outcome]
    enough = f" by more than {by}" if condition.threshold else ""
    if found.outcome == "passed":
        return f"better than {other}{enough}"
    if found.outcome == "cannot tell":
        return f"cannot tell whether it is better than {other}{enough}"
    if gain.mean > 0:
        return f"better than {other}, but not{enough}"
    if gain.differing and condition.opponent == "few_shot":
        return "few-shot prompting wins: do not ship"
    if condition.opponent == "few_shot":
        return "few-shot prompting scores the same on every row: do not ship"
    return "worse than the base: do not ship" if gain.differing else "not worth it: the base already does it"


def _value_opening(found: Finding) -> str:
    asked = f"{'below' if found.condition.kind == 'at_most' else 'at least'} {found.condition.threshold:g}"
    return {
        "passed": f"{found.subject} is {asked}",
        "failed": f"{found.subject} is not {asked}",
        "cannot tell": f"cannot tell whether {found.subject} is {asked}",
    }[found.outcome]


def _numbers(found: Finding, confidence: float) -> str:
    gain, value = found.gain, found.value
    if found.other is None:
        size = f"{number(value.value)}, {_range(value.low, value.high, confidence, number)}"
    else:
        unit = " nats a token" if found.condition.metric in LOWER_IS_BETTER else ""
        size = (
            f"{number(value.value)} against {number(found.other)}, gain {signed(gain.mean)}{unit}, "
            f"{_range(gain.low, gain.high, confidence, signed)}"
        )
    return f" ({size}, {gain.rows:,} rows{_grouped(gain)})"


def _hint(found: Finding, confidence: float) -> str:
    """Say why the rows do not tell, and what it would take."""
    if found.outcome != "cannot tell":
        return ""
    line, needed = found.line, found.rows_needed
    if needed is None:
        return " It lies too near to the line for a number of rows."
    why = ""
    if line.groups < FLOOR:
        why = f" {line.groups} independent rows are too few to tell anything."
    elif line.p > 1 - confidence and (line.low > 0 or line.high < 0):
        why = f" Signs flipped at random give as much with probability {line.p:.2g}; the limit is {1 - confidence:.2g}."
    elif line.low > 0 or line.high < 0:
        why = " It would not stand with a few more rows of the best and of the worst score."
    return f"{why} About {needed:,} test rows would tell 4 times in 5; there are {line.rows:,}."


def _range(low: float, high: float, confidence: float, form: Callable[[float], str]) -> str:
    known = math.isfinite(low) and math.isfinite(high)
    return f"{confidence * 100:.3g} % interval {f'{form(low)} to {form(high)}' if known else 'unbounded'}"


def _grouped(gain: Difference) -> str:
    return f" of {gain.groups:,} users or conversations" if gain.groups < gain.rows else ""
