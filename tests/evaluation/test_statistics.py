import math

import numpy as np
import pytest

from tunemill.evaluation.statistics import Difference, Outcome, compare, conclude, estimate, judge


def _rows(count: int) -> list[str]:
    return [f"row {i:05d}" for i in range(count)]


def _paired(better: int, worse: int, rows: int, resamples: int = 2000, seed: int = 0) -> Difference:
    """Compare two arms with right/wrong scores: `better` rows only the tuned one has right, `worse` only the other."""
    tuned = [1.0] * better + [0.0] * (rows - better)
    other = [0.0] * better + [1.0] * worse + [0.0] * (rows - better - worse)
    return compare(tuned, other, [1] * rows, _rows(rows), resamples=resamples, seed=seed)


def test_the_mean_difference_of_nine_gains_and_two_losses_in_31_rows_is_seven_31sts() -> None:
    found = _paired(better=9, worse=2, rows=31)
    assert found.mean == pytest.approx(7 / 31)
    assert (found.rows, found.groups, found.differing) == (31, 31, 11)


def test_30_gains_of_31_are_better() -> None:
    found = _paired(better=30, worse=0, rows=31)
    assert found.low > 0.85
    assert found.p < 0.001
    assert judge(found) == "better"
    assert judge(_paired(better=0, worse=30, rows=31)) == "worse"


def test_four_gains_and_no_loss_cannot_tell_although_the_interval_is_above_0() -> None:
    found = _paired(better=4, worse=0, rows=31)
    assert found.low > 0
    assert found.p == pytest.approx(2 / 2**4, abs=0.02)
    assert judge(found) == "cannot tell"


def test_the_p_value_of_eight_gains_and_one_loss_is_that_of_mcnemars_exact_test() -> None:
    exact = 2 * sum(math.comb(9, k) for k in (0, 1)) / 2**9
    assert _paired(better=8, worse=1, rows=50, resamples=20_000).p == pytest.approx(exact, abs=0.005)


def test_arms_that_score_alike_on_every_row_are_the_same() -> None:
    found = _paired(better=0, worse=0, rows=40)
    assert (found.mean, found.low, found.high, found.p, found.needed) == (0, 0, 0, 1, None)
    assert judge(found) == "same"


def test_nine_rows_never_tell_anything() -> None:
    assert judge(_paired(better=9, worse=0, rows=9)) == "cannot tell"
    assert judge(_paired(better=0, worse=0, rows=9)) == "cannot tell"
    assert judge(_paired(better=10, worse=0, rows=10)) == "better"


def test_one_row_has_no_interval() -> None:
    found = compare([1.0], [0.0], [1], ["a"])
    assert (found.low, found.high, found.needed) == (-math.inf, math.inf, None)
    assert judge(found) == "cannot tell"


def test_100_rows_of_10_users_count_as_10_and_not_as_100() -> None:
    rng = np.random.default_rng(0)
    effect = np.repeat(rng.normal(0.3, 1, size=10), 10)
    alone = compare(effect.tolist(), [0.0] * 100, [1] * 100, _rows(100))
    users = compare(effect.tolist(), [0.0] * 100, [1] * 100, [f"user {i // 10}" for i in range(100)])
    assert users.groups == 10
    assert users.high - users.low > 2.5 * (alone.high - alone.low)


def test_the_needed_rows_give_the_observed_difference_four_times_in_five() -> None:
    found = _paired(better=12, worse=6, rows=100)
    spread = math.sqrt((18 - 100 * 0.06**2) / 99)
    assert found.needed == math.ceil(((1.959964 + 0.841621) * spread / 0.06) ** 2)
    assert found.smallest == pytest.approx((1.959964 + 0.841621) * spread / 10, rel=1e-5)
    rng = np.random.default_rng(1)
    told = [
        judge(_paired(better, worse, found.needed, resamples=1000)) == "better"
        for better, worse, _ in rng.multinomial(found.needed, [0.12, 0.06, 0.82], size=150)
    ]
    assert 0.7 < np.mean(told) < 0.9


@pytest.mark.parametrize(("groups", "size", "alike"), [(10, 1, 0.0), (30, 1, 0.0), (30, 10, 0.3)])
def test_95_percent_intervals_hold_the_truth_95_times_in_100(groups: int, size: int, alike: float) -> None:
    rng = np.random.default_rng(2)
    names = [f"group {i:03d}" for i in range(groups) for _ in range(size)]
    held = 0
    for seed in range(1000):
        shared, own = rng.normal(size=(groups, 1)), rng.normal(size=(groups, size))
        effect = 0.5 + math.sqrt(alike) * shared + math.sqrt(1 - alike) * own
        found = compare(effect.ravel().tolist(), [0.0] * len(names), [1] * len(names), names, resamples=1000, seed=seed)
        held += found.low <= 0.5 <= found.high
    assert 935 <= held <= 970


def test_two_equal_models_are_called_better_in_at_most_25_of_1000_comparisons_and_chance() -> None:
    rng = np.random.default_rng(3)
    called = sum(
        judge(_paired(better, worse, 100, resamples=1000, seed=seed)) == "better"
        for seed, (better, worse, _) in enumerate(rng.multinomial(100, [0.1, 0.1, 0.8], size=1000))
    )
    assert called <= 25 + 2 * math.sqrt(1000 * 0.025 * 0.975)


def test_perplexity_is_weighed_by_tokens_and_a_fall_in_nats_is_a_gain() -> None:
    found = compare([10.0, 90.0], [30.0, 100.0], [10, 90], ["a", "b"], lower_is_better=True)
    assert found.mean == pytest.approx((20 + 10) / 100)
    assert estimate([10.0, 90.0], [10, 90], ["a", "b"]).value == pytest.approx(1.0)


def test_the_interval_of_an_arm_that_is_always_right_is_1_to_1() -> None:
    found = estimate([1.0] * 31, [1] * 31, _rows(31))
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_the_order_of_the_rows_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    tuned, other, order = rng.random(50), rng.random(50), rng.permutation(50)
    names = _rows(50)
    one = compare(tuned.tolist(), other.tolist(), [1] * 50, names)
    two = compare(tuned[order].tolist(), other[order].tolist(), [1] * 50, [names[i] for i in order])
    assert one == two


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    one, same, other = (_paired(9, 2, 31, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert (one.low, one.high, one.p) != (other.low, other.high, other.p)


def test_many_rows_are_resampled_in_pieces_that_do_not_change_the_law() -> None:
    rows = 5000
    found = _paired(better=600, worse=400, rows=rows)
    error = math.sqrt((1000 / rows - 0.04**2) / rows)
    assert found.low == pytest.approx(0.04 - 1.96 * error, abs=0.1 * error)
    assert found.high == pytest.approx(0.04 + 1.96 * error, abs=0.1 * error)


@pytest.mark.parametrize(
    ("base", "few_shot", "verdict"),
    [
        ("better", "better", "better"),
        ("better", "cannot tell", "cannot tell"),
        ("cannot tell", "better", "cannot tell"),
        ("cannot tell", "cannot tell", "cannot tell"),
        ("better", "same", "not better"),
        ("better", "worse", "not better"),
        ("worse", "better", "not better"),
        ("same", "same", "not better"),
        ("cannot tell", "worse", "not better"),
    ],
)
def test_a_model_is_better_only_when_it_beats_base_and_few_shot(base: Outcome, few_shot: Outcome, verdict: str) -> None:
    assert conclude(base, few_shot) == verdict
