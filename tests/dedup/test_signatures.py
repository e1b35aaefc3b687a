import numpy as np
import pytest

from tunemill.dedup.signatures import bands_for, encode, enough_agreeing, sign


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.7, 0.8, 0.95, 1.0])
def test_a_pair_at_the_threshold_is_missed_less_than_once_in_a_million(threshold: float) -> None:
    bands, rows = bands_for(threshold)
    assert (1 - threshold**rows) ** bands <= 1e-6


def test_at_070_there_are_51_bands_of_4_and_at_050_104_of_3() -> None:
    assert bands_for(0.7) == (51, 4)
    assert bands_for(0.5) == (104, 3)


def test_bands_are_shared_as_often_as_the_formula_says() -> None:
    # 2,000 pairs of Jaccard 7/10: 700 shared of 1,000 letters drawn from all of Unicode's first plane.
    draw = np.random.RandomState(5)
    texts = []
    for _ in range(2_000):
        points = draw.choice(np.arange(0x4E00, 0x9FFF), 1_000, replace=False)
        texts += ["".join(map(chr, points[:850])), "".join(map(chr, np.append(points[:700], points[850:])))]
    keys = sign(encode(texts), 1, 51, 4, seed=3).keys
    shared = (keys[::2] == keys[1::2]).sum(axis=1)
    expected, spread = 51 * 0.7**4, (51 * 0.7**4 * (1 - 0.7**4)) ** 0.5
    assert abs(shared.mean() - expected) < 4 * spread / 2_000**0.5
    assert 0.9 * spread < shared.std() < 1.1 * spread


def test_signatures_do_not_depend_on_what_stands_beside_a_text() -> None:
    alone = sign(encode(["an ordinary question"]), 5, 51, 4, seed=1)
    beside = sign(encode(["something longer than that, by some words", "an ordinary question"]), 5, 51, 4, seed=1)
    assert np.array_equal(alone.keys[0], beside.keys[1])
    assert np.array_equal(alone.sketches[0], beside.sketches[1])


def test_a_repeated_shingle_counts_once() -> None:
    assert sign(encode(["aaaaaaaaaa"]), 5, 1, 1, seed=1).sizes.tolist() == [1]


def test_few_agreeing_values_rule_a_pair_out_with_near_certainty() -> None:
    draw = np.random.RandomState(1)
    enough = enough_agreeing(128, 0.7, 1e-4)
    agreeing = draw.binomial(128, 0.7, 200_000)
    assert (agreeing < enough).mean() < 2e-4
    assert (agreeing < enough + 1).mean() > 5e-5
