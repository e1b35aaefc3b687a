import math
from collections import Counter

import pytest

from tunemill.training.schedule import (
    best_step,
    evaluation_interval,
    finished,
    order,
    pack,
    planned_steps,
    stops_early,
    training_losses,
    validation_losses,
    warmup,
)
from tunemill.training.settings import EarlyStopping, TrainSettings

HISTORY = [
    {"step": 0, "eval_loss": 3.0},
    {"step": 1, "loss": 2.5, "learning_rate": 0.1},
    {"step": 2, "loss": 2.0},
    {"step": 2, "eval_loss": 1.9},
    {"step": 2, "train_runtime": 5.0},
]


def test_300_rows_for_3_epochs_at_16_a_step_are_57_steps() -> None:
    assert planned_steps(300, TrainSettings(epochs=3, batch_size=4, accumulation=4)) == 57


def test_max_steps_ends_what_the_epochs_would_go_on_with() -> None:
    assert planned_steps(300, TrainSettings(epochs=3, max_steps=10)) == 10


def test_a_quarter_of_an_epoch_of_100_rows_trains_on_25() -> None:
    assert len(order([5] * 100, TrainSettings(epochs=0.25))) == 25


def test_every_row_is_seen_once_in_each_epoch() -> None:
    seen = Counter(order(list(range(1, 51)), TrainSettings(epochs=3, batch_size=4, accumulation=2)))
    assert set(seen.values()) == {3} and len(seen) == 50


def test_the_order_has_as_many_rows_as_the_planned_steps_take() -> None:
    settings = TrainSettings(epochs=2, max_steps=5, batch_size=4, accumulation=2)
    assert len(order([7] * 100, settings)) == 40


def test_another_seed_deals_the_rows_in_another_order() -> None:
    lengths = [5] * 50
    assert order(lengths, TrainSettings(seed=0)) != order(lengths, TrainSettings(seed=1))


def test_the_same_seed_deals_the_rows_in_the_same_order() -> None:
    assert order([5] * 10, TrainSettings(epochs=1, seed=7)) == order([5] * 10, TrainSettings(epochs=1, seed=7))


def test_rows_of_like_length_share_a_forward_pass_within_a_step() -> None:
    lengths = [10, 90] * 8
    dealt = [lengths[row] for row in order(lengths, TrainSettings(epochs=1, batch_size=4, accumulation=4))]
    assert dealt == [90] * 8 + [10] * 8


def test_sorting_within_a_step_leaves_each_step_its_rows() -> None:
    short, long = TrainSettings(epochs=1, batch_size=2, accumulation=4), list(range(1, 33))
    plain = order([1] * 32, short)
    by_length = order(long, short)
    assert [set(plain[i : i + 8]) for i in range(0, 32, 8)] == [set(by_length[i : i + 8]) for i in range(0, 32, 8)]


def test_packs_hold_every_row_once_and_no_more_tokens_than_fit() -> None:
    lengths = [37, 100, 64, 5, 5, 90, 28, 1, 99]
    packs = pack(lengths, 100)
    assert sorted(row for group in packs for row in group) == list(range(9))
    assert max(sum(lengths[row] for row in group) for group in packs) <= 100


def test_packing_takes_the_fullest_pack_that_a_row_fits_into() -> None:
    assert pack([60, 50, 40, 10], 100) == [[0, 2], [1, 3]]


def test_429_tokens_need_no_more_than_5_packs_of_100() -> None:
    assert len(pack([37, 100, 64, 5, 5, 90, 28, 1, 99], 100)) == math.ceil(429 / 100)


@pytest.mark.parametrize(("ratio", "steps", "expected"), [(0.03, 100, 3), (0.03, 10, 1), (1.0, 10, 9), (0.0, 10, 0)])
def test_the_warm_up_is_a_share_of_the_steps_and_leaves_one(ratio: float, steps: int, expected: int) -> None:
    assert warmup(steps, TrainSettings(warmup_ratio=ratio)) == expected


def test_warm_up_steps_win_over_the_ratio() -> None:
    assert warmup(100, TrainSettings(warmup_steps=7)) == 7


def test_left_alone_the_validation_loss_is_measured_ten_times() -> None:
    assert evaluation_interval(1000, TrainSettings()) == 100


def test_a_training_of_3_steps_is_measured_at_every_step() -> None:
    assert evaluation_interval(3, TrainSettings()) == 1


def test_losses_are_picked_from_a_trainers_log_by_kind() -> None:
    assert training_losses(HISTORY) == [(1, 2.5), (2, 2.0)]
    assert validation_losses(HISTORY) == [(0, 3.0), (2, 1.9)]


def test_the_best_step_is_the_earliest_of_the_lowest() -> None:
    assert best_step([(0, 1.0), (5, 2.0), (10, 1.5), (15, 1.5)]) == 10


def test_the_base_model_is_never_the_best_step() -> None:
    assert best_step([(0, 1.0)]) is None


def test_training_stops_after_2_measurements_without_a_new_lowest() -> None:
    early = EarlyStopping(patience=2)
    assert not stops_early([(0, 3.0), (5, 2.0), (10, 2.1)], early)
    assert stops_early([(0, 3.0), (5, 2.0), (10, 2.1), (15, 2.0)], early)


def test_a_fall_smaller_than_min_delta_is_none() -> None:
    assert stops_early([(0, 3.0), (5, 2.95)], EarlyStopping(patience=1, min_delta=0.1))


def test_small_falls_that_add_up_to_min_delta_count() -> None:
    falls = [(0, 3.0), (5, 2.94), (10, 2.88)]
    assert not stops_early(falls, EarlyStopping(patience=2, min_delta=0.1))


def test_without_early_stopping_nothing_stops() -> None:
    assert not stops_early([(0, 1.0), (5, 9.0), (10, 9.0), (15, 9.0)], None)


def test_a_training_is_finished_when_its_last_step_is_logged() -> None:
    assert finished(HISTORY, 2, None)
    assert not finished(HISTORY, 3, None)


def test_a_training_that_stopped_early_is_finished() -> None:
    risen = [*HISTORY, {"step": 3, "loss": 1.9}, {"step": 3, "eval_loss": 4.0}]
    assert finished(risen, 100, EarlyStopping(patience=1))
    assert not finished(risen, 100, EarlyStopping(patience=2))


def test_a_training_that_was_only_measured_is_not_finished() -> None:
    assert not finished(HISTORY[:1], 2, EarlyStopping(patience=1))
