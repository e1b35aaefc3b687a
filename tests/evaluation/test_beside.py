"""Tonight's model beside the champion, on the rows that both were scored on."""

from collections.abc import Sequence

from tunemill.evaluation.beside import beside
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.summary import Score

ASKED = EvaluateSettings(metrics=("exact_match", "perplexity"), resamples=1000)


def scores(totals: Sequence[float], first: int = 0, weight: int = 1) -> list[Score]:
    """Score rows from `first` on with the tuned model, and wrong with the base."""
    rows = [(f"row {first + number:05d}", total) for number, total in enumerate(totals)]
    tuned = [Score(row, row, "tuned", "exact_match", total, weight) for row, total in rows]
    return tuned + [Score(row, row, "base", "exact_match", 0, weight) for row, _ in rows]


def test_only_rows_that_both_were_scored_on_count() -> None:
    found = beside(scores([1] * 40), scores([0] * 30, first=25), 3, ASKED)
    assert (found.outcome, found.rows, found.gain) == ("better", 15, 1)
    assert found.sentence.startswith("better than champion version 3 on 15 test rows that both were scored on")


def test_a_model_that_lost_what_the_champion_could_is_worse() -> None:
    found = beside(scores([0] * 12 + [1] * 28), scores([1] * 40), 3, ASKED)
    assert (found.outcome, found.rows) == ("worse", 40)
    assert round(found.gain, 3) == -0.3
    assert found.high < 0


def test_the_same_answers_are_the_same() -> None:
    assert beside(scores([1, 0] * 20), scores([1, 0] * 20), 3, ASKED).outcome == "same"


def test_nine_shared_rows_tell_nothing() -> None:
    found = beside(scores([0] * 9), scores([1] * 9), 3, ASKED)
    assert found.outcome == "cannot tell"
    assert "9 test rows that both were scored on; 10 are needed" in found.sentence


def test_rows_of_another_weight_and_no_rows_are_not_compared() -> None:
    assert beside(scores([1] * 20), scores([1] * 20, weight=2), 3, ASKED).rows == 0
    assert beside(scores([1] * 20), scores([1] * 20, first=20), 3, ASKED).outcome == "cannot tell"
    assert beside(scores([1] * 20), [], 3, ASKED).rows == 0
