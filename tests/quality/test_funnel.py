"""Every record that was read is on a side or left out for a reason."""

from tunemill.quality.funnel import Left, Loss, Place, funnel, losses

SIDES = {"train": 6, "validation": 1, "test": 1}


def left(*reasons):
    return [Left("a" * 64, line, reason, f"detail {line}") for line, reason in enumerate(reasons, 1)]


def test_reasons_come_most_first_with_the_first_example_and_ties_by_name():
    assert losses("ingest", left("late", "early", "often", "often")) == [
        Loss("ingest", "often", 2, Place("a" * 64, 3), "detail 3"),
        Loss("ingest", "early", 1, Place("a" * 64, 2), "detail 2"),
        Loss("ingest", "late", 1, Place("a" * 64, 1), "detail 1"),
    ]


def test_each_stage_is_given_what_the_one_before_let_through():
    found = funnel(12, {"ingest": losses("ingest", left("x", "y")), "validate": losses("validate", left("z"))}, SIDES)
    assert [(step.stage, step.came, step.left) for step in found.steps] == [("ingest", 12, 10), ("validate", 10, 9)]
    assert (found.read, found.left_out) == (12, 3)


def test_a_row_on_no_side_and_in_no_list_is_unaccounted():
    assert funnel(12, {"ingest": losses("ingest", left("x", "y", "z"))}, SIDES).unaccounted == 1
    assert funnel(11, {"ingest": losses("ingest", left("x", "y", "z"))}, SIDES).unaccounted == 0
