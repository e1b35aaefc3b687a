"""The settings of validate: defaults, bounds, and what enters the key."""

import pytest
from pydantic import ValidationError

from tunemill.quality.settings import ExpectationSettings, ValidateSettings

REGEX = {"type": "expect_column_values_to_match_regex", "column": "answer", "regex": "^x"}


def test_an_answer_needs_50_characters_by_default():
    assert ValidateSettings().min_answer_characters == 50


def test_the_arguments_of_an_expectation_enter_the_key():
    one = ValidateSettings.model_validate({"expectations": [REGEX]})
    other = ValidateSettings.model_validate({"expectations": [REGEX | {"regex": "^y"}]})
    assert one.decisions()["expectations"] == [REGEX | {"reason": None}]
    assert one.decisions() != other.decisions()


def test_an_expectation_without_a_reason_is_named_after_its_column_and_arguments():
    name = ExpectationSettings.model_validate(REGEX).name
    assert name == "`answer`: expected values to match regex (regex ^x)"


def test_an_expectation_must_carry_a_name_of_great_expectations():
    with pytest.raises(ValidationError, match="type"):
        ExpectationSettings.model_validate({"type": "ExpectColumnValuesToMatchRegex", "column": "answer"})


def test_a_longest_answer_of_40_below_the_shortest_of_50_is_refused():
    with pytest.raises(ValidationError, match="every row would be rejected"):
        ValidateSettings(max_answer_characters=40)


def test_an_unknown_rule_beside_expectations_is_refused():
    with pytest.raises(ValidationError, match="min_answer_chars"):
        ValidateSettings.model_validate({"min_answer_chars": 5})
