import json
import math
from typing import get_args

import pytest

from tunemill.errors import DataError
from tunemill.evaluation import metrics
from tunemill.evaluation.metrics import exact_match, field_accuracy, json_valid, rouge_l, token_f1


def test_exact_match_forgives_white_space_around_an_answer_and_nothing_else() -> None:
    predictions = [" refund\n", "Refund", "refund.", "re fund", "refund"]
    assert exact_match(predictions, ["refund"] * 5) == [1.0, 0.0, 0.0, 0.0, 1.0]


def test_two_words_of_three_that_are_both_among_four_give_an_f1_of_four_sevenths() -> None:
    assert token_f1(["the card arrived"], ["my card has arrived"]) == [pytest.approx(2 * 2 / (3 + 4))]


def test_token_f1_counts_a_repeated_word_as_often_as_both_have_it() -> None:
    assert token_f1(["no no no"], ["no no yes"]) == [pytest.approx(2 * 2 / (3 + 3))]


def test_token_f1_ignores_order_case_and_punctuation() -> None:
    assert token_f1(["Arrived, CARD!"], ["card arrived"]) == [1.0]


def test_rouge_l_of_a_common_subsequence_of_three_words_in_four_and_five() -> None:
    # "police killed gunman" is the longest common subsequence: recall 3/4, precision 3/5
    assert rouge_l(["police then killed a gunman"], ["police killed the gunman"]) == [pytest.approx(2 * 3 / (5 + 4))]


def test_rouge_l_minds_the_order_that_token_f1_ignores() -> None:
    assert token_f1(["gunman killed police"], ["police killed gunman"]) == [1.0]
    assert rouge_l(["gunman killed police"], ["police killed gunman"]) == [pytest.approx(1 / 3)]


def test_words_of_other_scripts_score_as_english_ones_do() -> None:
    assert rouge_l(["карта пришла"], ["карта пришла вчера"]) == [pytest.approx(2 * 2 / (2 + 3))]
    assert token_f1(["Zahlung für Äpfel"], ["zahlung FÜR äpfel"]) == [1.0]


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"intent": "refund"}', 1.0),
        ('\n {"intent": "refund"} \n', 1.0),
        ("{}", 1.0),
        ('["refund"]', 0.0),
        ('"refund"', 0.0),
        ('```json\n{"intent": "refund"}\n```', 0.0),
        ('Sure: {"intent": "refund"}', 0.0),
        ('{"intent": "refund"} {"intent": "refund"}', 0.0),
        ('{"intent": "refund",}', 0.0),
        ("{'intent': 'refund'}", 0.0),
        ('{"amount": NaN}', 0.0),
        ("", 0.0),
    ],
)
def test_only_a_text_that_is_one_json_object_as_a_whole_is_valid(text: str, valid: float) -> None:
    assert json_valid([text], ["ignored"]) == [valid]


def test_one_right_field_of_two_scores_a_half_and_invalid_json_scores_0() -> None:
    reference = '{"intent": "refund", "amount": 12}'
    predictions = ['{"intent": "refund", "amount": 13}', '{"intent": "refund"', reference]
    assert field_accuracy(predictions, [reference] * 3, ("intent", "amount")) == [0.5, 0.0, 1.0]


def test_a_field_that_nobody_asked_for_may_be_wrong() -> None:
    assert field_accuracy(['{"intent": "a", "note": 1}'], ['{"intent": "a", "note": 2}'], ("intent",)) == [1.0]


@pytest.mark.parametrize(
    ("predicted", "expected", "right"),
    [
        (1, 1.0, 1.0),
        (True, 1, 0.0),
        (0, False, 0.0),
        ("1", 1, 0.0),
        (None, None, 1.0),
        ([1, {"a": [True]}], [1.0, {"a": [True]}], 1.0),
        ([1, {"a": [True]}], [1, {"a": [1]}], 0.0),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, 1.0),
        ({"a": 1}, {"a": 1, "b": 2}, 0.0),
    ],
)
def test_fields_are_compared_as_json_values(predicted: object, expected: object, right: float) -> None:
    prediction, reference = json.dumps({"value": predicted}), json.dumps({"value": expected})
    assert field_accuracy([prediction], [reference], ("value",)) == [right]


def test_leaving_out_a_field_is_right_only_where_the_reference_leaves_it_out() -> None:
    references = ['{"intent": "a"}', '{"intent": "a", "amount": null}']
    assert field_accuracy(['{"intent": "a"}'] * 2, references, ("amount",)) == [1.0, 0.0]


def test_a_field_that_no_reference_has_is_an_error_and_not_a_perfect_score() -> None:
    with pytest.raises(DataError, match=r"evaluate.fields: intnet stands in none of 2 test answers; they have intent"):
        field_accuracy(["{}", "{}"], ['{"intent": "a"}', '{"intent": "b"}'], ("intnet",))


def test_a_reference_that_is_no_json_object_is_named_by_its_number() -> None:
    with pytest.raises(DataError, match=r"answer 2 of 2 is 'refund'"):
        field_accuracy(["{}", "{}"], ['{"intent": "a"}', "refund"], ("intent",))


@pytest.mark.parametrize("name", sorted(metrics.TEXT_METRICS))
def test_an_empty_answer_scores_0_by_every_metric(name: str) -> None:
    asked = {"fields": ("intent",)} if name == "field_accuracy" else {}
    assert metrics.TEXT_METRICS[name]([""], ['{"intent": "refund"}'], **asked) == [0.0]


def test_the_table_holds_every_metric_that_can_be_asked_for_but_perplexity() -> None:
    assert {*metrics.TEXT_METRICS, "perplexity"} == set(get_args(metrics.Metric))


def test_a_uniform_guess_among_8_tokens_has_perplexity_8() -> None:
    assert metrics.perplexity(3 * math.log(8), 3) == pytest.approx(8.0)


def test_a_hopeless_perplexity_is_infinite_and_does_not_overflow() -> None:
    assert metrics.perplexity(1e6, 1) == math.inf
