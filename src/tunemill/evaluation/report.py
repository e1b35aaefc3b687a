"""Write the report for a person who reads one line: the verdict first, then what it rests on."""

import math
import re
from collections.abc import Mapping, Sequence

import msgspec

from tunemill.evaluation.arms import ARMS, OPPONENTS, Arm
from tunemill.evaluation.generation import Answer
from tunemill.evaluation.metrics import LOWER_IS_BETTER
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.statistics import FLOOR, Difference, Interval
from tunemill.evaluation.summary import Compared, Summary
from tunemill.rows import Message

NAMES: dict[Arm, str] = {"base": "base", "few_shot": "few-shot", "tuned": "fine-tuned"}
SAMPLES = 5
"""Test rows shown side by side: the first by content hash, so that nobody picked them."""
_LONGEST = 2000


class Sample(msgspec.Struct, frozen=True):
    """One question with the answer of every arm."""

    turns: tuple[Message, ...]
    expected: str | None
    answers: dict[Arm, Answer]


def write(
    summary: Summary,
    settings: EvaluateSettings,
    tested: Sequence[Sample],
    asked: Sequence[Sample],
    seconds: Mapping[Arm, float],
    four_bit: bool,
) -> str:
    """Give report.md; it points to scores.png beside it and names no place of the machine.

    Args:
        tested: samples of the test rows.
        asked: the fixed prompts of `evaluate.prompts`.
        seconds: how long each arm took, on all its rows.
        four_bit: the base was loaded in 4 bits, as the adapter was trained on it.
    """
    parts = [
        f"# {_headline(summary)}",
        "\n".join(f"- {line}" for line in verdict_lines(summary)),
        _basis(summary, settings, four_bit),
        "![Every metric with its interval, three arms side by side](scores.png)",
        "## Scores",
        _scores(summary),
        "## Differences",
        _differences(summary),
        "## Cost of a request",
        _cost(summary, seconds),
        "## Test rows side by side",
        f"The first {len(tested)} by content hash; nobody picked them.",
        *(_side_by_side(number, sample) for number, sample in enumerate(tested, 1)),
    ]
    if asked:
        parts += ["## Fixed prompts", *(_side_by_side(number, sample) for number, sample in enumerate(asked, 1))]
    return "\n\n".join(parts) + "\n"


def verdict_lines(summary: Summary) -> list[str]:
    """Answer in plain words: better than the base? better than few-shot?"""
    k = len(summary.few_shot.examples)
    lines = []
    for opponent, name in (("base", "the base"), ("few_shot", f"few-shot with {k} example{'s' * (k != 1)}")):
        compared = summary.differences[opponent][summary.primary]  # type: ignore[index]
        answer = {"better": "yes", "worse": "no, worse", "same": "no, the same", "cannot tell": "cannot tell"}
        detail = _detail(summary, compared)
        lines.append(f"Better than {name}: **{answer[compared.outcome]}** ({detail}).{_hint(compared, summary)}")
    outcome = summary.differences["few_shot"][summary.primary].outcome
    if outcome in ("worse", "same"):
        lines.append("**Fine-tuning did not help beyond few-shot prompting**; the examples in the prompt do as well.")
    elif outcome == "cannot tell":
        lines.append("It is not shown that fine-tuning helps beyond few-shot prompting.")
    return lines


def _headline(summary: Summary) -> str:
    return {
        "better": "The fine-tuned model is better than the base and better than few-shot",
        "not better": "The fine-tuned model is not better",
        "cannot tell": "Cannot tell whether the fine-tuned model is better",
    }[summary.verdict]


def _detail(summary: Summary, compared: Compared) -> str:
    difference = compared.difference
    unit = " nats a token, above 0 is a gain" if summary.primary in LOWER_IS_BETTER else ""
    size = f"{difference.rows:,} rows"
    if difference.groups < difference.rows:
        size += f" of {difference.groups:,} users or conversations"
    return (
        f"{summary.primary} {_signed(difference.mean)}{unit}, "
        f"{_percent(summary.confidence)} interval {_range(difference)}, {size}"
    )


def _hint(compared: Compared, summary: Summary) -> str:
    """Say what it would take, where the rows do not tell."""
    difference = compared.difference
    if compared.outcome != "cannot tell":
        return ""
    if difference.groups < FLOOR:
        return f" {difference.groups} independent rows are too few to tell anything; {FLOOR} are the least."
    if difference.needed is None:
        return f" Only {difference.differing} of them differ."
    if difference.needed > difference.groups:
        return f" About {difference.needed:,} independent rows would show a difference of this size 4 times in 5."
    return (
        f" The two differ on {difference.differing} of {difference.groups:,} independent rows; signs flipped at random "
        f"give as large a difference with probability {difference.p:.2g}, and the limit is "
        f"{1 - summary.confidence:.2g}."
    )


def _basis(summary: Summary, settings: EvaluateSettings, four_bit: bool) -> str:
    shown = summary.few_shot
    sentences = [
        f"The verdict rests on `{summary.primary}`.",
        f"Every arm got the same {summary.rows:,} test rows and decoded greedily, at most {settings.max_new_tokens:,} "
        "tokens; base and fine-tuned are one loaded model, with the adapter off and on.",
    ]
    if four_bit:
        sentences.append("It is in 4 bits, as it was trained on; in 16 bits base and few-shot may score differently.")
    few = "" if len(shown.examples) == shown.asked else f" ({shown.asked} were asked for, the training set has no more)"
    sentences += [
        f"Few-shot: one k ({len(shown.examples)}{few}) and one seed ({shown.seed}); another k, seed or order can score "
        "differently.",
        f"A failure counts as wrong. Intervals: paired bootstrap, {settings.resamples:,} resamples.",
    ]
    return " ".join(sentences)


def _scores(summary: Summary) -> str:
    rows = [
        [f"`{metric}`" + (" (lower is better)" if metric in LOWER_IS_BETTER else "")]
        + [_estimate(summary.arms[arm].metrics[metric]) for arm in ARMS]
        for metric in summary.arms["base"].metrics
    ]
    rows.append(["rows that failed", *(_failures(summary.arms[arm].failures) for arm in ARMS)])
    rows.append(["answers cut off", *(f"{summary.arms[arm].unfinished:,}" for arm in ARMS)])
    note = "An interval of no width says that every row scored the same, not that more rows would."
    return f"{_table(['', *(NAMES[arm] for arm in ARMS)], rows)}\n\n{note}"


def _differences(summary: Summary) -> str:
    rows = []
    for metric in summary.arms["base"].metrics:
        for opponent in OPPONENTS:
            compared = summary.differences[opponent][metric]
            found = compared.difference
            rows.append(
                [
                    f"`{metric}`" + (", nats a token" if metric in LOWER_IS_BETTER else ""),
                    NAMES[opponent],
                    f"{_signed(found.mean)} ({_range(found)})",
                    f"{found.p:.2g}",
                    f"{found.differing:,} of {found.groups:,}",
                    "unknown" if found.smallest is None else _number(found.smallest),
                    compared.outcome,
                ]
            )
    head = [
        "metric",
        "against",
        f"gain ({_percent(summary.confidence)} interval)",
        "p",
        "differ",
        "smallest visible",
        "outcome",
    ]
    note = (
        "A gain above 0 is in favour of the fine-tuned model, for every metric. p: two-sided sign-flip test; an "
        "outcome needs it and the interval. Smallest visible: the difference that this many rows show 4 times in 5, "
        "at the observed spread. Only the primary metric decides; the others are not corrected for being many."
    )
    return f"{_table(head, rows)}\n\n{note}"


def _cost(summary: Summary, seconds: Mapping[Arm, float]) -> str:
    rows = [
        [NAMES[arm], f"{found.prompt_tokens:,.0f}", f"{found.new_tokens:,.0f}", f"{seconds[arm]:,.1f}"]
        for arm, found in summary.arms.items()
    ]
    table = _table(["", "prompt tokens", "answer tokens", "seconds for the whole test"], rows)
    few, tuned = summary.arms["few_shot"].prompt_tokens, summary.arms["tuned"].prompt_tokens
    if not tuned:
        return table
    return f"{table}\n\nTokens are means a request; the few-shot prompt is {few / tuned:.1f} times as long."


def _side_by_side(number: int, sample: Sample) -> str:
    parts = [f"### {number}"]
    parts += [f"{turn.role}:\n\n{_fenced(turn.said)}" for turn in sample.turns]
    if sample.expected is not None:
        parts.append(f"expected:\n\n{_fenced(sample.expected)}")
    for arm, answer in sample.answers.items():
        if answer.failure:
            parts.append(f"**{NAMES[arm]}**: no answer, {answer.failure}")
            continue
        cut = "" if answer.finished else f", cut off after {answer.new_tokens:,} tokens"
        parts.append(f"**{NAMES[arm]}**{cut}:\n\n{_fenced(answer.text)}")
    return "\n\n".join(parts)


def _fenced(text: str) -> str:
    """Put text where it can neither end the block nor act as HTML; long text is cut, and says so."""
    cut = len(text) - _LONGEST
    shown = text if cut <= 0 else f"{text[:_LONGEST]}\n[{cut:,} more characters]"
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence}text\n{shown}\n{fence}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _failures(failures: Mapping[str, int]) -> str:
    return "; ".join(f"{count:,} {reason}" for reason, count in failures.items()) or "0"


def _estimate(found: Interval) -> str:
    return f"{_number(found.value)} ({_number(found.low)} to {_number(found.high)})"


def _range(found: Difference) -> str:
    return f"{_signed(found.low)} to {_signed(found.high)}"


def _number(value: float) -> str:
    """Write with as many digits as a reader can use."""
    if not math.isfinite(value):
        return "unknown"
    return f"{value:,.2f}" if abs(value) < 100 else f"{value:,.0f}"


def _signed(value: float) -> str:
    return f"+{_number(value)}" if 0 < value < math.inf else _number(value)


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
