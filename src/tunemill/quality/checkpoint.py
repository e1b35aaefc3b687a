"""Run a suite of Great Expectations through a real checkpoint and read its results without losing a row."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tunemill.errors import ConfigError, DataError
from tunemill.quality.settings import ExpectationSettings

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext
    from great_expectations.expectations.expectation import Expectation


_WORDS = """
    column_pair_values_a_to_be_greater_than_b column_pair_values_to_be_equal column_pair_values_to_be_in_set
    column_value_lengths_to_be_between column_value_lengths_to_equal column_values_to_be_between
    column_values_to_be_dateutil_parseable column_values_to_be_in_set column_values_to_be_in_type_list
    column_values_to_be_json_parseable column_values_to_be_null column_values_to_be_of_type
    column_values_to_match_json_schema column_values_to_match_like_pattern column_values_to_match_like_pattern_list
    column_values_to_match_regex column_values_to_match_regex_list column_values_to_match_strftime_format
    column_values_to_not_be_in_set column_values_to_not_be_null column_values_to_not_match_like_pattern
    column_values_to_not_match_like_pattern_list column_values_to_not_match_regex
    column_values_to_not_match_regex_list multicolumn_sum_to_equal multicolumn_values_to_be_equal
    select_column_values_to_be_unique_within_record
"""
ALONE = frozenset(f"expect_{words}" for words in _WORDS.split())
"""Expectations on rows that judge a row by itself; any other may look at the rows beside it."""


class Outcome(msgspec.Struct, frozen=True):
    """What one expectation found in one frame."""

    success: bool
    checked: int
    """Rows that were looked at; nulls count as looked at and as met, as everywhere in Great Expectations."""
    rows: tuple[int, ...] | None
    """Values of the column `row` where it is not met; None for an expectation on the frame as a whole."""
    observed: Any
    """What such an expectation measured, e.g. a mean."""


def open_context(docs_folder: Path | None) -> "EphemeralDataContext":
    """Open a context in memory, quiet and off the network; Data Docs go to `docs_folder` when they are built."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    site = {
        "class_name": "SiteBuilder",
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs_folder)},
    }
    config = DataContextConfig(
        store_backend_defaults=InMemoryStoreBackendDefaults(),
        data_docs_sites={"quality": site} if docs_folder is not None else {},
        progress_bars={"globally": False},
        analytics_enabled=False,
    )
    return gx.get_context(mode="ephemeral", project_config=config)


def build(settings: ExpectationSettings) -> "Expectation":
    """Turn one setting into the expectation that it names.

    Raises:
        ConfigError: no such expectation, or arguments that it does not take; near misses are named.
    """
    from great_expectations.compatibility.pydantic import ValidationError
    from great_expectations.expectations.registry import (
        get_expectation_impl,
        list_registered_expectation_implementations,
    )

    known = [name for name in list_registered_expectation_implementations() if name.startswith("expect_")]
    if settings.type not in known:
        raise ConfigError(f"validate.expectations: no expectation `{settings.type}`{_near(settings.type, known)}")
    kind = get_expectation_impl(settings.type)
    try:
        return kind(**{"notes": f"Reason given: {settings.name}", **settings.arguments})
    except ValidationError as error:
        faults = [f"validate.expectations: {settings.type}: {_explain(fault, kind)}" for fault in error.errors()]
        raise ConfigError("\n".join(faults)) from None


def is_on_rows(settings: ExpectationSettings) -> bool:
    """Tell an expectation that rejects single rows from one that the dataset as a whole must meet."""
    from great_expectations.expectations.expectation import (
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        MulticolumnMapExpectation,
    )

    on_rows = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
    return isinstance(build(settings), on_rows) and settings.arguments.get("mostly", 1) == 1


def looks_across_rows(settings: ExpectationSettings) -> bool:
    """Tell a rule on rows that may reject a row for what stands in others, or for where it stands among them."""
    by_position = "row" in re.findall(r"\w+", str(settings.arguments.get("row_condition", "")))
    return settings.type not in ALONE or "row" in settings.columns or by_position


class Suite:
    """Rules with the checkpoint that checks them, table by table."""

    def __init__(self, context: "EphemeralDataContext", name: str, rules: Sequence[ExpectationSettings]) -> None:
        import great_expectations as gx

        # A suite given as settings drops what it cannot build and `add_expectation` drops doubles, both in silence;
        # given as objects, every expectation stays.
        suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=[build(rule) for rule in rules]))
        asset = context.data_sources.add_pandas(name).add_dataframe_asset(name)
        data = asset.add_batch_definition_whole_dataframe(name)
        definition = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=data, suite=suite))
        complete = {"result_format": "COMPLETE", "unexpected_index_column_names": ["row"]}
        checkpoint = gx.Checkpoint(name=name, validation_definitions=[definition], result_format=complete)
        self._checkpoint = context.checkpoints.add(checkpoint)
        self._rules = [(rule, expectation.id) for rule, expectation in zip(rules, suite.expectations, strict=True)]

    def __call__(self, table: "pd.DataFrame") -> list[Outcome]:
        """Check every rule on the whole table; outcomes stand in the order of the rules.

        Args:
            table: has a column `row` whose values name the rows.

        Raises:
            DataError: an expectation could not be computed, e.g. because its column does not exist.
        """
        run = self._checkpoint.run(batch_parameters={"dataframe": table})
        (results,) = run.run_results.values()
        # Results come in an order of their own.
        by_id = {result.expectation_config.id: result for result in results.results if result.expectation_config}
        return [_outcome(rule, by_id[known], table) for rule, known in self._rules]


def run_checkpoint(
    context: "EphemeralDataContext", name: str, rules: Sequence[ExpectationSettings], table: "pd.DataFrame"
) -> list[Outcome]:
    """Check every rule on one table through a checkpoint of its own; see `Suite`."""
    return Suite(context, name, rules)(table)


def _outcome(rule: ExpectationSettings, result: Any, table: "pd.DataFrame") -> Outcome:
    _refuse_exception(rule, result.exception_info, list(table.columns))
    facts = result.result
    rows = None
    if "unexpected_count" in facts:
        rows = tuple(sorted(int(found["row"]) for found in facts["unexpected_index_list"]))
        if len(rows) != facts["unexpected_count"]:
            raise DataError(f"{rule.name}: {facts['unexpected_count']:,} rows fail it, only {len(rows):,} were named")
    return Outcome(bool(result.success), int(facts.get("element_count", len(table))), rows, facts.get("observed_value"))


def _refuse_exception(rule: ExpectationSettings, info: Mapping[str, Any], columns: Sequence[str]) -> None:
    """Stop when the expectation was not computed: Great Expectations itself only says that it is not met."""
    # One exception for the expectation, or one for every metric that it needs.
    raised = [info] if "raised_exception" in info else list(info.values())
    messages = dict.fromkeys(str(one["exception_message"]) for one in raised if one["raised_exception"])
    if not messages:
        return
    unknown = [f"there is no column `{name}`{_near(name, columns)}" for name in rule.columns if name not in columns]
    where = ", ".join(f"`{name}`" for name in rule.columns) or "the dataset"
    raise DataError(f"validate: {rule.type} on {where} could not be checked: {'; '.join(unknown or messages)}")


def _explain(fault: Mapping[str, Any], kind: type["Expectation"]) -> str:
    setting = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "value_error.extra":
        return f"no such setting `{setting}`{_near(setting, list(kind.__fields__))}"
    return str(fault["msg"]) if setting == "__root__" else f"`{setting}`: {fault['msg']}"


def _near(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return "; did you mean " + " or ".join(f"`{one}`" for one in near) + "?"
    return f"; known: {', '.join(sorted(known))}"
