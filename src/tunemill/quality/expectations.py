"""Keep the rows that meet every expectation and reject the others, each with its reasons.

Rules on rows are checked on all rows; rules on the dataset on the rows that are left. Both run through Great
Expectations, so the contract that is published in the Data Docs is the one that decided.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tunemill.errors import DataError
from tunemill.models.calls import NO_PLACE
from tunemill.quality.checkpoint import Outcome, is_on_rows, open_context, run_checkpoint
from tunemill.quality.columns import CountTokens, clean, frame
from tunemill.quality.limits import ExpectationFact, Lengths, Validated, enforce
from tunemill.quality.settings import ExpectationSettings, ValidateSettings
from tunemill.rows import Rejected, Row

if TYPE_CHECKING:
    import pandas as pd

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


def validate(
    rows: Sequence[Row],
    settings: ValidateSettings,
    count_tokens: CountTokens,
    docs_folder: Path | None = None,
    file_names: Mapping[str, str] | None = None,
) -> Validated:
    """Clean every row, check it, and keep or reject it; the result depends on the rows and settings alone.

    Args:
        count_tokens: length of a conversation under the base model's tokenizer and template; it is asked only about
            conversations whose roles are in order.
        docs_folder: empty folder for the Data Docs (`index.html`). They hold times and random ids, so their bytes
            differ from run to run.
        file_names: source digest → name, for messages only.

    Raises:
        ConfigError: an expectation or an argument of it does not exist.
        DataError: an expectation could not be computed, e.g. because of a column that does not exist.
        DatasetRefused: more rows rejected than `max_rejected`, fewer left than `min_rows`, or an expectation on the
            dataset is not met. It carries the whole result, so that rejected rows can still be written down.
    """
    ordered = sorted(rows, key=lambda row: (row.place, row.row_id))
    cleaned = [clean(row, settings) for row in ordered]
    on_rows = row_rules(settings) + [rule for rule in settings.expectations if is_on_rows(rule)]
    on_dataset = [_least_rows(settings), *(rule for rule in settings.expectations if not is_on_rows(rule))]

    table = frame(cleaned, count_tokens, settings.roles)
    context = open_context(docs_folder)
    row_outcomes = run_checkpoint(context, "rows", on_rows, table)
    broken = _broken_rules(on_rows, row_outcomes)
    left = table[~table["row"].isin(list(broken))]
    # Means and the like do not exist where nothing is left; the least number of rows says so already.
    on_dataset = on_dataset if len(left) else on_dataset[:1]
    dataset_outcomes = run_checkpoint(context, "dataset", on_dataset, left)
    if docs_folder is not None:
        context.build_data_docs()

    facts = [
        *(_fact(rule, outcome, "rows") for rule, outcome in zip(on_rows, row_outcomes, strict=True)),
        *(_fact(rule, outcome, "dataset") for rule, outcome in zip(on_dataset, dataset_outcomes, strict=True)),
    ]
    kept = [row for place, row in enumerate(cleaned) if place not in broken]
    rejected = [_reject(ordered[place], broken[place], table, place) for place in sorted(broken)]
    assert len(rows) == len(kept) + len(rejected)
    validated = Validated(kept, rejected, facts, _lengths(table, broken), settings)
    enforce(validated, file_names or {})
    return validated


def certify_unique(keys: Sequence[str]) -> None:
    """Prove that no two keys are equal; the keys are the normalised conversations that deduplication left.

    Raises:
        DataError: some are equal; their positions are named.
    """
    import pandas as pd

    if not keys:
        return
    table = pd.DataFrame({"row": range(len(keys)), "key": pd.Series(keys, dtype="str")})
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


def _least_rows(settings: ValidateSettings) -> ExpectationSettings:
    reason = f"at least {settings.min_rows:,} rows left"
    arguments = {"type": "expect_table_row_count_to_be_between", "min_value": settings.min_rows}
    return ExpectationSettings.model_validate({"reason": reason, **arguments})


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


def _fact(rule: ExpectationSettings, outcome: Outcome, on: str) -> ExpectationFact:
    unexpected = len(outcome.rows) if outcome.rows is not None else None
    return ExpectationFact(
        rule.name, rule.type, rule.arguments, on, outcome.checked, unexpected, outcome.success, outcome.observed
    )


def _lengths(table: "pd.DataFrame", broken: Mapping[int, object]) -> Lengths:
    is_broken = table["row"].isin(list(broken))

    def of(column: str, rejected: bool) -> list[int]:
        return [int(value) for value in table.loc[is_broken == rejected, column].dropna()]

    return Lengths(
        of("tokens", False), of("tokens", True), of("answer_characters", False), of("answer_characters", True)
    )
