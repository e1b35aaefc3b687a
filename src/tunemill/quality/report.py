"""Write what validation found for a person: counts first, then the rules, the reasons, the lengths and a few rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tunemill.quality.histogram import Limit, draw
from tunemill.quality.limits import ExpectationFact, Summary, place
from tunemill.quality.markdown import cell, fenced
from tunemill.rows import Row


def write_report(
    summary: Summary,
    examples: Sequence[Row],
    folder: Path,
    file_names: Mapping[str, str] | None = None,
    checked: str = "",
) -> None:
    """Write report.md, tokens.png and answer_characters.png; the same result gives the same bytes.

    Args:
        examples: rows to show, see `examples.spread`.
        checked: says which of the rows were checked when, in one paragraph.
        file_names: source digest → name. Leave it out where the bytes of the report must not depend on file names;
            places are then written as the first 12 digits of the digest and the line.
    """
    settings, lengths = summary.settings, summary.lengths
    most = settings.max_answer_characters
    draw(
        folder / "tokens.png",
        "tokens per conversation",
        lengths.kept_tokens,
        lengths.rejected_tokens,
        [Limit("limit", settings.max_tokens, True)],
    )
    draw(
        folder / "answer_characters.png",
        "characters per answer",
        lengths.kept_answer_characters,
        lengths.rejected_answer_characters,
        [Limit("minimum", settings.min_answer_characters, False), *([Limit("limit", most, True)] if most else [])],
    )
    (folder / "report.md").write_text(_report(summary, examples, file_names or {}, checked), encoding="utf-8")


def _report(summary: Summary, examples: Sequence[Row], file_names: Mapping[str, str], checked: str) -> str:
    kept, rejected, rows = summary.facts.kept, summary.facts.rejected, summary.facts.rows
    parts = [
        f"# {kept:,} of {rows:,} rows kept, {rejected:,} rejected ({rejected / rows:.1%})",
        "## Rules",
        "In the order in which they are checked. A row can break several; it is counted at each.",
        _rules(summary.expectations),
        *([checked] if checked else []),
        "## Rejected rows by first reason",
        _reasons(summary, file_names) if rejected else "None.",
        "## Lengths",
        _lengths(summary),
        "![Histogram of the tokens per conversation](tokens.png)",
        "![Histogram of the characters per answer](answer_characters.png)",
        "## Examples",
        "The oldest, the middle and the newest row that is kept, as they will train.",
        *(_example(row, file_names) for row in examples),
    ]
    return "\n\n".join(parts) + "\n"


def _rules(facts: Sequence[ExpectationFact]) -> str:
    lines = ["| rule | expectation | rows checked | outcome |", "|---|---|--:|---|"]
    for fact in facts:
        lines.append(f"| {cell(fact.name)} | `{fact.type}` | {fact.checked:,} | {cell(_outcome(fact))} |")
    return "\n".join(lines)


def _outcome(fact: ExpectationFact) -> str:
    if fact.on == "rows" and fact.unexpected is not None:
        return (
            f"{fact.unexpected:,} {'row' if fact.unexpected == 1 else 'rows'} rejected" if fact.unexpected else "holds"
        )
    found = f" (observed {fact.observed})" if fact.observed is not None else ""
    found = f" ({fact.unexpected:,} rows differ)" if fact.unexpected else found
    return ("holds" if fact.success else "**does not hold: stops the run**") + found


def _reasons(summary: Summary, file_names: Mapping[str, str]) -> str:
    lines = ["| rows | reason | for example | there |", "|--:|---|---|---|"]
    for one in summary.facts.reasons:
        where = cell(place(one.example, file_names))
        lines.append(f"| {one.rows:,} | {cell(one.example.reason)} | {where} | {cell(one.example.detail)} |")
    return "\n".join(lines)


def _lengths(summary: Summary) -> str:
    lengths = summary.lengths
    lines = [
        "| kept rows | shortest | median | 95th percentile | longest | all together |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, values in (("tokens", lengths.kept_tokens), ("answer characters", lengths.kept_answer_characters)):
        if not len(values):
            continue
        ranked, last = np.sort(values), len(values) - 1
        numbers = (ranked[0], ranked[last // 2], ranked[round(last * 0.95)], ranked[-1], ranked.sum(dtype=np.int64))
        lines.append(f"| {name} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
    return "\n".join(lines)


def _example(row: Row, file_names: Mapping[str, str]) -> str:
    turns = [f"**{turn.role}**\n\n{fenced(turn.said)}" for turn in row.messages]
    return "\n\n".join([f"### `{row.row_id[:12]}` from {cell(place(row, file_names))}", *turns])
