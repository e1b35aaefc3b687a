"""The course's guideline on the number of training rows."""

import pytest

from tunemill.quality.sizes import size_warning


@pytest.mark.parametrize(
    ("task_type", "rows", "words"),
    [
        ("style", 99, "99 training rows are below the minimum for `style`: minimum 100 to 500, recommended 1,000"),
        ("style", 999, "999 training rows are below the recommended number for `style`: minimum 100 to 500"),
        ("domain", 999, "below the minimum for `domain`: minimum 1,000, recommended 5,000"),
        ("new_task", 4_999, "4,999 training rows are below the minimum for `new_task`: minimum 5,000"),
        ("behaviour", 500, "500 training rows are below the recommended number for `behaviour`: minimum 500 to 2,000"),
    ],
)
def test_too_few_rows_are_warned_of_with_both_numbers(task_type, rows, words):
    assert words in size_warning(task_type, rows)


@pytest.mark.parametrize(
    ("task_type", "rows"), [("style", 1_000), ("domain", 5_000), ("new_task", 10_000), ("behaviour", 5_000)]
)
def test_the_recommended_number_is_enough(task_type, rows):
    assert size_warning(task_type, rows) is None
