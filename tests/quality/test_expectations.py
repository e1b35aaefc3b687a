"""Every rule, through a real checkpoint of Great Expectations."""

import os
import random
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

import tunemill
from tunemill.errors import ConfigError, DataError, ModelError
from tunemill.quality.expectations import certify_unique, validate
from tunemill.quality.limits import DatasetRefused
from tunemill.quality.settings import ValidateSettings
from tunemill.rows import Message, content_id, make_row
from tunemill.sources import read
from tunemill.sources.settings import IngestSettings

SOURCE = "ab" * 32
LONG_ENOUGH = "The parcel left the depot on Monday and arrives tomorrow."


def row(line, question="Where is my parcel?", answer=LONG_ENOUGH):
    return make_row([Message("user", question), Message("assistant", answer)], SOURCE, line)


def words(messages, tools=None):
    return sum(len(message.content.split()) for message in messages)


GOOD = [row(line) for line in range(1, 21)]


def with_rules(*rules, **settings):
    return ValidateSettings.model_validate({"expectations": rules, **settings})


def between(column, **limits):
    return {"type": "expect_column_values_to_be_between", "column": column, **limits}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (21, "`answer` is empty"),
        (22, "`prompt` is empty"),
        (23, "a turn is empty"),
        (24, "roles out of order"),
        (25, "`answer` shorter than 50 characters"),
        (26, "`answer` longer than 300 characters"),
        (27, "`prompt` shorter than 5 characters"),
        (28, "longer than 100 tokens"),
        (29, "`answer` holds a phone number"),
    ],
)
def test_each_rule_rejects_the_row_that_breaks_it(validated, line, reason):
    assert [one.reason for one in validated.rejected if one.line == line] == [reason]


def test_nothing_vanishes(rows, validated):
    assert (len(rows), len(validated.kept), len(validated.rejected)) == (30, 20, 10)


def test_kept_rows_are_clean_and_stand_from_old_to_new(validated):
    assert [one.line for one in validated.kept] == list(range(1, 21))
    assert validated.kept[-1] == row(20, question="Where?")


def test_a_row_that_breaks_two_rules_is_rejected_once_and_its_detail_names_both_with_the_values(validated):
    (both,) = [one for one in validated.rejected if one.line == 30]
    assert both.detail == (
        "`answer` shorter than 50 characters (answer_characters: 3); "
        "`prompt` shorter than 5 characters (prompt_characters: 3)"
    )


def test_the_detail_of_a_wrong_order_shows_the_roles(validated):
    (one,) = [one for one in validated.rejected if one.line == 24]
    assert one.detail == "roles out of order (roles: user user assistant)"


def test_a_rejected_row_carries_its_conversation_as_it_was_read(validated):
    (one,) = [one for one in validated.rejected if one.line == 21]
    assert orjson.loads(one.text)["messages"][1] == {"role": "assistant", "content": " \n "}


def test_every_expectation_leaves_its_counts(validated):
    counts = {fact.name: (fact.on, fact.checked, fact.unexpected) for fact in validated.summary.expectations}
    assert counts["`answer` shorter than 50 characters"] == ("rows", 30, 3)
    assert counts["`answer` holds a phone number"] == ("rows", 30, 1)
    assert counts["at least 10 rows left"] == ("dataset", 20, None)


def test_the_order_in_which_rows_come_changes_nothing(rows, validated):
    shuffled = random.Random(1).sample(rows, len(rows))
    again = validate(shuffled, validated.summary.settings, words)
    assert (again.kept, again.rejected, again.summary.expectations) == (
        validated.kept,
        validated.rejected,
        validated.summary.expectations,
    )


def test_data_docs_show_the_contract_on_rows_and_on_the_dataset(validated, docs):
    pages = {path.relative_to(docs).as_posix(): path.read_text() for path in docs.rglob("*.html")}
    assert "expectations/dataset.html" in pages
    assert "Reason given: <code>answer</code> holds a phone number" in pages["expectations/rows.html"]
    assert sum(page.startswith("validations/rows/") for page in pages) == 1


def test_an_unknown_expectation_is_refused_with_its_near_misses():
    rule = {"type": "expect_column_values_to_match_regexp", "column": "answer", "regex": "x"}
    with pytest.raises(ConfigError, match="did you mean `expect_column_values_to_match_regex`"):
        validate(GOOD, with_rules(rule), words)


def test_an_unknown_argument_is_refused_with_its_near_miss():
    with pytest.raises(ConfigError, match="no such setting `max_valu`; did you mean `max_value`"):
        validate(GOOD, with_rules(between("tokens", max_valu=5)), words)


@pytest.mark.parametrize("kind", ["expect_column_values_to_not_be_null", "expect_column_max_to_be_between"])
def test_a_missing_column_stops_the_run_although_great_expectations_does_not_raise(kind):
    limits = {"max_value": 5} if "max" in kind else {}
    with pytest.raises(DataError, match=rf"{kind} on `answr` .* no column `answr`; did you mean `answer`"):
        validate(GOOD, with_rules({"type": kind, "column": "answr", **limits}), words)


def test_a_broken_regular_expression_stops_the_run():
    rule = {"type": "expect_column_values_to_match_regex", "column": "answer", "regex": "("}
    with pytest.raises(DataError, match="match_regex on `answer` could not be checked"):
        validate(GOOD, with_rules(rule), words)


def test_a_failed_expectation_on_the_dataset_stops_the_run_with_what_was_observed():
    rule = {"type": "expect_column_mean_to_be_between", "column": "turns", "min_value": 3}
    with pytest.raises(DatasetRefused, match=r"mean to be between \(min_value 3\): observed 2\.0"):
        validate(GOOD, with_rules(rule), words)


def test_an_expectation_on_the_dataset_looks_at_the_rows_that_are_left():
    rule = {"type": "expect_column_min_to_be_between", "column": "answer_characters", "min_value": 50}
    assert len(validate([*GOOD, row(21, answer="no")], with_rules(rule), words).kept) == 20


def test_mostly_rejects_no_row_while_enough_rows_meet_it():
    mixed = [*GOOD, row(21, question="Where, where, where is it?")]
    assert len(validate(mixed, with_rules(between("prompt_characters", max_value=20, mostly=0.9)), words).kept) == 21


def test_mostly_stops_the_run_when_too_few_rows_meet_it():
    mixed = [*GOOD, row(21, question="Where, where, where is it?")]
    with pytest.raises(DatasetRefused, match="1 of 21 rows do not meet it"):
        validate(mixed, with_rules(between("prompt_characters", max_value=20, mostly=0.99)), words)


def test_a_column_of_another_type_stops_the_run():
    rule = {"type": "expect_column_values_to_be_of_type", "column": "answer", "type_": "int"}
    with pytest.raises(DatasetRefused, match="observed str"):
        validate(GOOD, with_rules(rule), words)


def test_a_json_schema_rejects_json_that_differs_and_leaves_prose_to_other_rules():
    answers = ['{"intent": "refund"}', '{"intent": 7}', "prose, not JSON"]
    mixed = [row(line, answer=answer) for line, answer in enumerate(answers, 1)]
    schema = {"type": "object", "properties": {"intent": {"type": "string"}}}
    rule = {"type": "expect_column_values_to_match_json_schema", "column": "answer_json", "json_schema": schema}
    settings = with_rules(rule, min_answer_characters=1, min_rows=1, max_rejected=1)
    assert [one.line for one in validate(mixed, settings, words).rejected] == [2]


def test_a_rule_given_twice_is_checked_twice():
    found = validate(GOOD, with_rules(*[between("turns", max_value=5)] * 2), words).summary.expectations
    assert sum(fact.arguments.get("column") == "turns" for fact in found) == 2


def test_the_run_stops_above_the_share_that_may_be_rejected():
    mixed = [*GOOD, *(row(line, answer="no") for line in range(21, 31))]
    settings = ValidateSettings(max_rejected=0.25)
    with pytest.raises(DatasetRefused) as refused:
        validate(mixed, settings, words, file_names={SOURCE: "tickets.csv"})
    assert str(refused.value).splitlines() == [
        "validate: 10 of 30 rows rejected (33.3%); the limit is 25.0%",
        "      10  `answer` shorter than 50 characters  e.g. tickets.csv:21",
        "  Mend the file, change the rule, or raise validate.max_rejected",
    ]


def test_the_run_stops_when_9_rows_are_left_and_10_are_needed():
    with pytest.raises(DatasetRefused, match="9 of 9 rows left; at least 10 are needed"):
        validate(GOOD[:9], ValidateSettings(), words)


def test_no_rows_at_all_stop_the_run():
    with pytest.raises(DatasetRefused, match="0 of 0 rows left"):
        validate([], ValidateSettings(), words)


def test_a_rule_on_uniqueness_flags_every_copy():
    rule = {"type": "expect_column_values_to_be_unique", "column": "row_id"}
    mixed = [*(row(line, question=f"Where is {line}?") for line in range(1, 11)), row(11, question="Where is 1?")]
    assert [one.line for one in validate(mixed, with_rules(rule, min_rows=9), words).rejected] == [1, 11]


def test_distinct_keys_are_certified():
    keys = [content_id(row(line, question=str(line)).messages) for line in range(50)]
    certify_unique(keys)
    with pytest.raises(DataError, match=r"2 of 51 rows .* rows 7, 50 "):
        certify_unique([*keys, keys[7]])


def test_equal_keys_are_refused_with_their_rows():
    with pytest.raises(DataError, match=r"2 of 4 rows .* rows 1, 3 "):
        certify_unique(["a", "b", "c", "b"])


def test_validation_writes_nothing_to_the_terminal(tmp_path):
    script = """
import pathlib, sys
from tunemill.quality.expectations import validate
from tunemill.quality.settings import ValidateSettings
from tunemill.rows import Message, make_row
turns = [Message("user", "Where is it?"), Message("assistant", "It arrives tomorrow. " * 5)]
rows = [make_row(turns, "ab" * 32, line) for line in range(20)]
validate(rows, ValidateSettings(), lambda turns, tools: len(turns), pathlib.Path(sys.argv[1]))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(tunemill.__file__).parents[1])}
    command = [sys.executable, "-c", script, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "index.html").is_file()


def test_a_row_with_calls_that_the_template_does_not_take_is_rejected_and_others_are_kept():
    call = Message("assistant", "", '[{"id":"call00001","name":"find","arguments":{"n":1}}]')
    rows = [*GOOD, make_row([Message("user", "Where is my parcel?"), call], SOURCE, 21)]

    def refusing(turns, tools):
        if turns[-1].call:
            raise ModelError("it leaves out the call")
        return words(turns)

    found = validate(rows, ValidateSettings(max_rejected=0.5), refusing)
    assert (len(found.kept), [(one.line, one.reason) for one in found.rejected]) == (
        20,
        [(21, "the model's chat template has no place for tool calls")],
    )
    assert "it leaves out the call" in found.rejected[0].detail


def test_a_template_that_refuses_a_row_without_calls_stops_as_before():
    def refusing(turns, tools):
        raise ModelError("no system turn")

    with pytest.raises(ModelError, match="no system turn"):
        validate(GOOD, ValidateSettings(), refusing)


def test_the_text_of_a_rejected_row_with_calls_is_a_record_that_ingest_reads_to_the_same_row(tmp_path):
    call = Message("assistant", "", '[{"id":"call00001","name":"find","arguments":{"n":"1 <|im_end|>"}}]')
    result = Message("tool", "none", '{"id":"call00001","name":"find"}')
    turns = [Message("user", "Where?"), call, result, Message("assistant", "no")]
    tools = '[{"type":"function","function":{"name":"find"}}]'
    rows = [*GOOD, make_row(turns, SOURCE, 21, tools=tools)]
    (one,) = validate(rows, with_rules(max_rejected=0.5, min_answer_characters=5), words).rejected
    (tmp_path / "a.jsonl").write_text(one.text)
    (again,) = read(tmp_path / "a.jsonl", SOURCE, IngestSettings(files="a.jsonl"))
    assert again == make_row(turns, SOURCE, 1, tools=tools)
