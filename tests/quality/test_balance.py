"""Which answers count as labels, and which shares are told."""

import csv
import os
from collections import Counter
from pathlib import Path
from random import Random

import orjson
import pytest

from tunemill.quality.balance import Labels, Tally, crowd_warning, warnings_of
from tunemill.quality.page_settings import BalanceSettings

DATA = Path(os.environ.get("TUNEMILL_REAL_DATA") or Path(__file__).parents[2] / "../shared/data")


def counted(answers, field=None, side="train"):
    tally = Tally(field)
    for answer in answers:
        tally.add(side, answer)
    return tally.labels()


def records(field, *values):
    return [orjson.dumps({field: value, "reply": f"reply {n}"}).decode() for n, value in enumerate(values)]


def told(labels: Labels, **settings) -> list[str]:
    return list(warnings_of(labels, BalanceSettings(**settings)))


def test_short_answers_that_come_again_are_labels():
    (labels,) = counted(["yes"] * 7 + ["no"] * 3)
    assert labels.field is None
    assert [(label.value, label.rows) for label in labels.labels] == [("yes", 7), ("no", 3)]


def test_answers_of_their_own_are_no_labels():
    assert counted([f"answer {n}" for n in range(300)]) == []
    assert counted([f"answer {n % 3}" for n in range(14)]) == []


def test_200_values_are_labels_and_201_are_free_text():
    assert len(counted([f"{n % 200}" for n in range(1000)])[0].labels) == 200
    assert counted([f"{n % 201}" for n in range(2010)]) == []


def test_one_answer_longer_than_80_characters_makes_free_text():
    assert counted(["yes"] * 10 + ["y" * 80])[0].rows == 11
    assert counted(["yes"] * 10 + ["y" * 81]) == []


def test_of_json_answers_the_fields_that_hold_labels_are_found():
    (labels,) = counted(records("intent", *["refund", "track"] * 10))
    assert (labels.field, labels.rows, labels.without) == ("intent", 20, 0)


def test_true_and_whole_numbers_are_values_and_lists_are_not():
    (labels,) = counted(records("urgent", True, True, 1, 1, [1], None), "urgent")
    assert [(label.value, label.rows) for label in labels.labels] == [("1", 2), ("true", 2)]
    assert labels.without == 2


def test_a_named_field_is_counted_however_many_values_it_has():
    (labels,) = counted(records("id", *map(str, range(300))), "id")
    assert len(labels.labels) == 300


def test_answers_with_more_than_100_fields_in_all_hold_no_labels():
    answers = [{"intent": "a", f"field {n % 98}": "b", "reply": f"{n}"} for n in range(2_000)]
    assert [labels.field for labels in counted([orjson.dumps(answer).decode() for answer in answers])] == ["intent"]
    answers += [{"field 98": "b"}]
    assert counted([orjson.dumps(answer).decode() for answer in answers]) == []


def test_the_order_of_the_answers_changes_nothing():
    answers = records("intent", *["a", "b", "b", "c"] * 20)
    assert counted(Random(1).sample(answers, len(answers))) == counted(answers)


def test_a_field_that_no_answer_has_is_told_with_the_setting_to_change():
    (labels,) = counted(records("intent", "a", "b"), "intnt")
    assert told(labels) == [
        "balance: no answer has the field `intnt`; name one that they have in page.balance.field",
    ]


def test_81_of_100_rows_with_one_value_are_told_and_80_are_not():
    (above,), (at,) = counted(["a"] * 81 + ["b"] * 19), counted(["a"] * 80 + ["b"] * 20)
    assert told(above) == [
        "balance: the answer 'a' has 81 of 100 rows (81.0%); the limit is 80% (page.balance.warn_above). "
        "A model that always gives it is right as often"
    ]
    assert told(at) == []


def test_values_below_a_fifth_of_an_even_share_are_told_with_the_rarest():
    # Of 4 values each would have 25 of 100 rows; a fifth of that is 5.
    (labels,) = counted(["a"] * 50 + ["b"] * 41 + ["c"] * 5 + ["d"] * 4)
    assert told(labels) == [
        "balance: 1 of 4 values of the answer has less than 5% of 100 rows (page.balance.warn_below); the rarest, "
        "the answer 'd', has 4"
    ]
    assert told(labels, warn_below=0.06)[0].startswith("balance: 2 of 4 values of the answer have less than 6% of")


def test_a_value_that_is_tested_and_never_trained_is_told():
    tally = Tally(None)
    for side, answer in [("train", "a"), ("train", "b")] * 5 + [("test", "a"), ("test", "c"), ("test", "c")]:
        tally.add(side, answer)
    (labels,) = tally.labels() or [Labels(None, [], 0)]
    assert labels.labels == []  # 13 rows of 3 values are fewer than 5 each
    tally.add("train", "a", 2)
    (labels,) = tally.labels()
    assert told(labels) == [
        "balance: 1 of 3 values of the answer is tested and never trained, e.g. the answer 'c'; add rows"
    ]


def test_a_cluster_of_11_in_100_rows_is_told_and_one_of_10_is_not():
    settings = BalanceSettings()
    assert list(crowd_warning("one row and its copies make up", 10, 100, settings)) == []
    assert list(crowd_warning("one row and its copies make up", 11, 100, settings)) == [
        "balance: one row and its copies make up 11 of 100 rows (11.0%); the limit is 10% "
        "(page.balance.warn_cluster_above)"
    ]


def test_the_77_intents_of_banking77_are_labels_and_none_is_rare():
    path = DATA / "banking77" / "train.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} of Banking77 is not under TUNEMILL_REAL_DATA")
    with path.open(encoding="utf-8", newline="") as file:
        answers = [answer for _, answer in list(csv.reader(file))[1:]]
    (labels,) = counted(answers)
    assert {label.value: label.rows for label in labels.labels} == Counter(answers)
    assert (len(labels.labels), labels.rows, labels.labels[-1].rows) == (77, 10_003, 35)
    assert told(labels) == []
