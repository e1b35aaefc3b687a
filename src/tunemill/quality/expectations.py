"""Keep the rows that meet every expectation and reject the others, each with its reasons.

Rules on rows are checked on all rows; rules on the dataset on the rows that are left. Both run through Great
Expectations, so the contract that is published in the Data Docs is the one that decided.
"""

import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson

from tunemill.errors import DataError
from tunemill.models.calls import NO_PLACE
from tunemill.quality.batches import BATCH, Batch, batches
from tunemill.quality.checkpoint import Outcome, Suite, is_on_rows, looks_across_rows, open_context, run_checkpoint
from tunemill.quality.columns import CountTokens, clean, frame
from tunemill.quality.found import UNKNOWN, Facts, Found, Lengths, Reason, RuleFound, joined_found, ranked
from tunemill.quality.limits import ExpectationFact, Summary, Validated, enforce
from tunemill.quality.settings import ExpectationSettings, ValidateSettings
from tunemill.rows import Rejected, Row

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext

_SHOWN = {"roles_in_order": "roles", "answer_is_json": "answer"}
"""What a person wants to see where a rule stands on a flag."""


def row_rules(settings: ValidateSettings) -> list[ExpectationSettings]:
    """Give the built-in rules on single rows, in the order in which the first one met names the reason."""
    least, most = settings.min_answer_characters, settings.max_answer_characters
    prompt, tokens = settings.min_prompt_characters, settings.max_tokens
    rules = [_not_null("answer", "`answer` is empty")]
    if prompt > 0:
        rules += [_not_null("prompt", "`prompt` is empty"), _between("empty_turns", "a turn is empty", max_value=0)]
    rules.append(_rule("values_to_be_in_set", "roles out of order", column="roles_in_order", value_set=[True]))
    rules.append(_rule("values_to_be_null", NO_PLACE, column="calls_refused"))
    if least > 1:
        rules.append(_between("answer_characters", f"`answer` shorter than {least:,} characters", min_value=least))
    if most is not None:
        rules.append(_between("answer_characters", f"`answer` longer than {most:,} characters", max_value=most))
    if prompt > 1:
        rules.append(_between("prompt_characters", f"`prompt` shorter than {prompt:,} characters", min_value=prompt))
    return [*rules, _between("tokens", f"longer than {tokens:,} tokens", max_value=tokens)]


def of_rows(settings: ValidateSettings) -> ValidateSettings:
    """Give the settings that decide which rows are kept, where each row is looked at alone."""
    on_rows = tuple(rule for rule in settings.expectations if is_on_rows(rule))
    return settings.model_copy(update={"expectations": on_rows, "max_rejected": 1.0, "min_rows": 1})


def looks_at_rows_alone(settings: ValidateSettings) -> bool:
    """Tell whether a row is kept or rejected whatever other rows there are."""
    return not any(looks_across_rows(rule) for rule in settings.expectations if is_on_rows(rule))


def validate(
    rows: Sequence[Row],
    settings: ValidateSettings,
    count_tokens: CountTokens,
    docs_folder: Path | None = None,
    file_names: Mapping[str, str] | None = None,
) -> Validated:
    """Examine every row, and stop where the dataset as a whole may not be used.

    Args:
        file_names: source digest → name, for messages only.

    Raises:
        DatasetRefused: more rows rejected than `max_rejected`, fewer left than `min_rows`, or an expectation on the
            dataset is not met.
    """
    validated = examine(rows, settings, count_tokens, docs_folder)
    enforce(validated.summary, file_names or {})
    return validated


def examine(
    rows: Sequence[Row], settings: ValidateSettings, count_tokens: CountTokens, docs_folder: Path | None = None
) -> Validated:
    """Clean every row, check all at once, and keep or reject each; the result depends on rows and settings alone.

    Args:
        count_tokens: length of a conversation under the base model's tokenizer and template; it is asked only about
            conversations whose roles are in order.
        docs_folder: empty folder for the Data Docs (`index.html`). They hold times and random ids, so their bytes
            differ from run to run.

    Raises:
        ConfigError: an expectation or an argument of it does not exist.
        DataError: an expectation could not be computed, e.g. because of a column that does not exist.
    """
    context = open_context(docs_folder)
    ((_, found),) = check([("", rows)], settings, count_tokens, context, Batch(len(rows) + 1, sys.maxsize))
    shown = [*expectation_facts(found.facts, settings), least_rows(len(found.kept), settings)]
    shown += check_dataset(found.kept, found.lengths.kept_tokens, settings, context)
    if docs_folder is not None:
        context.build_data_docs()
    return Validated(found.kept, found.rejected, Summary(found.facts, shown, found.lengths, settings))


def check(
    files: Iterable[tuple[str, Sequence[Row]]],
    settings: ValidateSettings,
    count_tokens: CountTokens,
    context: "EphemeralDataContext",
    most: Batch = BATCH,
) -> Iterator[tuple[str, Found]]:
    """Clean and check the rows of files, many files or a part of one at a time, and give what was found in each.

    What is found in a file depends on its rows alone, as long as the rules look at each row alone.

    Args:
        files: name → rows in any order; read one by one as they are asked for.
        context: the rules on rows are kept there as the suite `rows`, with the results of each batch.

    Raises:
        ConfigError: an expectation or an argument of it does not exist.
        DataError: an expectation could not be computed, e.g. because of a column that does not exist.
    """
    rules = _on_rows(settings)
    suite, begun = Suite(context, "rows", rules), list[Found]()
    ordered = ((name, sorted(rows, key=lambda row: (row.place, row.row_id))) for name, rows in files)
    for batch in batches(ordered, most):
        together = [row for piece in batch for row in piece.rows]
        cleaned = [clean(row, settings) for row in together]
        table = frame(cleaned, count_tokens, settings.roles)
        checked, start = _Checked(together, cleaned, table, rules, suite(table)), 0
        for piece in batch:
            begun.append(checked.found(start, start + len(piece.rows)))
            start += len(piece.rows)
            if piece.ends:
                yield piece.file, joined_found(begun)
                begun.clear()


def check_dataset(
    kept: Sequence[Row], tokens: Iterable[int], settings: ValidateSettings, context: "EphemeralDataContext"
) -> list[ExpectationFact]:
    """Check the configured rules on the dataset; `tokens` are those of the rows that are left, in the same order."""
    rules = on_dataset(settings)
    if not rules or not kept:  # means and the like do not exist where nothing is left; `min_rows` says so already
        return []
    paired = sorted(zip(kept, tokens, strict=True), key=lambda pair: (pair[0].place, pair[0].row_id))
    # The roles of every kept row are in order, so that each is asked for.
    lengths = (length for _, length in paired)
    table = frame([row for row, _ in paired], lambda turns, tools: int(next(lengths)), settings.roles)
    outcomes = run_checkpoint(context, "dataset", rules, table)
    return [_fact(rule, outcome) for rule, outcome in zip(rules, outcomes, strict=True)]


def on_dataset(settings: ValidateSettings) -> list[ExpectationSettings]:
    """Give the configured rules that the dataset as a whole must meet."""
    return [rule for rule in settings.expectations if not is_on_rows(rule)]


def expectation_facts(facts: Facts, settings: ValidateSettings) -> list[ExpectationFact]:
    """Say of every rule on rows what it met."""
    return [
        ExpectationFact(rule.name, rule.type, rule.arguments, "rows", facts.rows, *msgspec.structs.astuple(found))
        for rule, found in zip(_on_rows(settings), facts.rules, strict=True)
    ]


def least_rows(kept: int, settings: ValidateSettings) -> ExpectationFact:
    """Say whether enough rows are left."""
    least = settings.min_rows
    name, kind = f"at least {least:,} rows left", "expect_table_row_count_to_be_between"
    return ExpectationFact(name, kind, {"min_value": least}, "dataset", kept, None, kept >= least, kept)


def certify_unique(keys: Sequence[str] | Sequence[int]) -> None:
    """Prove that no two keys are equal; the keys stand for the conversations that deduplication added.

    Raises:
        DataError: some are equal; their positions are named.
    """
    import pandas as pd

    if not keys:
        return
    table = pd.DataFrame({"row": range(len(keys)), "key": keys})
    rule = _rule("values_to_be_unique", "keys differ", column="key")
    (outcome,) = run_checkpoint(open_context(None), "unique", [rule], table)
    if not outcome.success:
        found = outcome.rows or ()
        shown = ", ".join(f"{row:,}" for row in found[:10]) + (", ..." if len(found) > 10 else "")
        raise DataError(
            f"deduplicate: {len(found):,} of {len(keys):,} rows are left with a text that another one has: "
            f"rows {shown} (counted from 0); the deduplicated rows may not be used"
        )


def _rule(words: str, reason: str, **arguments: Any) -> ExpectationSettings:
    return ExpectationSettings.model_validate({"type": f"expect_column_{words}", "reason": reason, **arguments})


def _between(column: str, reason: str, **limits: int) -> ExpectationSettings:
    return _rule("values_to_be_between", reason, column=column, **limits)


def _not_null(column: str, reason: str) -> ExpectationSettings:
    return _rule("values_to_not_be_null", reason, column=column)


def _on_rows(settings: ValidateSettings) -> list[ExpectationSettings]:
    return row_rules(settings) + [rule for rule in settings.expectations if is_on_rows(rule)]


def _broken_rules(
    rules: Sequence[ExpectationSettings], outcomes: Sequence[Outcome]
) -> dict[int, list[ExpectationSettings]]:
    """Collect, for every row that breaks a rule, the rules that it breaks, in suite order."""
    broken: dict[int, list[ExpectationSettings]] = {}
    for rule, outcome in zip(rules, outcomes, strict=True):
        for row in outcome.rows or ():
            broken.setdefault(row, []).append(rule)
    return broken


def _reject(row: Row, rules: Sequence[ExpectationSettings], table: "pd.DataFrame", place: int) -> Rejected:
    detail = "; ".join(f"{rule.name}{_values(rule, table, place)}" for rule in rules)
    text = orjson.dumps(row.record).decode()
    return Rejected(row.source, row.line, rules[0].name, detail, text[:2000])


def _values(rule: ExpectationSettings, table: "pd.DataFrame", place: int) -> str:
    import pandas as pd

    shown = []
    for column in dict.fromkeys(_SHOWN.get(name, name) for name in rule.columns):
        value = table.at[place, column]
        if not pd.isna(value):
            shown.append(f"{column}: {value:,.0f}" if column == "tokens" else f"{column}: {str(value)[:200]}")
    return f" ({', '.join(shown)})" if shown else ""


def _fact(rule: ExpectationSettings, outcome: Outcome) -> ExpectationFact:
    unexpected = len(outcome.rows) if outcome.rows is not None else None
    return ExpectationFact(
        rule.name, rule.type, rule.arguments, "dataset", outcome.checked, unexpected, outcome.success, outcome.observed
    )


class _Checked:
    """One batch after its check, to be taken apart."""

    def __init__(
        self,
        rows: Sequence[Row],
        cleaned: Sequence[Row],
        table: "pd.DataFrame",
        rules: Sequence[ExpectationSettings],
        outcomes: Sequence[Outcome],
    ) -> None:
        self._rows, self._cleaned, self._table, self._outcomes = rows, cleaned, table, outcomes
        self._broken = _broken_rules(rules, outcomes)
        kept = ~table["row"].isin(list(self._broken))
        columns = [table["tokens"].fillna(UNKNOWN), table["answer_characters"], kept]
        self._lengths = np.array([column.to_numpy(np.int32) for column in columns])

    def found(self, start: int, stop: int) -> Found:
        """Give what was found in the rows from `start` up to `stop`."""
        bad = [place for place in range(start, stop) if place in self._broken]
        rejected = [_reject(self._rows[place], self._broken[place], self._table, place) for place in bad]
        kept = [self._cleaned[place] for place in range(start, stop) if place not in self._broken]
        reasons = [Reason(1, self._rows[place].time or "", one) for place, one in zip(bad, rejected, strict=True)]
        rules = [_rule_found(outcome, start, stop) for outcome in self._outcomes]
        facts = Facts(len(kept), len(rejected), rules, ranked(reasons))
        return Found(kept, rejected, facts, Lengths(self._lengths[:, start:stop]))


def _rule_found(outcome: Outcome, start: int, stop: int) -> RuleFound:
    if outcome.rows is None:
        return RuleFound(None, outcome.success, outcome.observed)
    unexpected = bisect_left(outcome.rows, stop) - bisect_left(outcome.rows, start)
    return RuleFound(unexpected, unexpected == 0)
