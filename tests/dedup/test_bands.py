from random import Random

import numpy as np
import pytest

from tests.dedup.conftest import Brute
from tunemill.dedup.bands import across, compared_with, linked, met, signed
from tunemill.dedup.components import components
from tunemill.dedup.text import normalise, prompt_text
from tunemill.rows import Row


@pytest.fixture(scope="module")
def texts(banking: list[Row]) -> list[str]:
    found = [normalise(prompt_text(row)) for row in Random(11).sample(banking, 1_500)]
    return [*found, "", "", "hi", "hi", "ho"]


def brute_labels(texts: list[str], pairs: dict[tuple[int, int], float]) -> list[int]:
    links = [*pairs, (1502, 1503)]
    left, right = (np.array(column) for column in zip(*links, strict=True))
    return components(len(texts), left, right).tolist()


@pytest.mark.parametrize("threshold", [0.4, 0.5, 0.7])
def test_links_connect_what_brute_force_connects_and_short_texts_that_are_equal(
    texts: list[str], brute: Brute, threshold: float
) -> None:
    pairs = brute(texts[:1500], threshold)
    labels = linked(texts, signed(texts, threshold, 5), threshold, 5)
    assert len(pairs) >= 10
    assert labels.tolist() == brute_labels(texts, pairs)


def test_a_template_that_fills_a_bucket_is_told_apart_and_a_flood_of_copies_is_not() -> None:
    draw = Random(2)
    opening = "thank you for your message about the delivery of the order with the number "
    family = [
        f"{opening} {draw.random()} {draw.random()} {draw.random()} {draw.random()} {draw.random()}" for _ in range(300)
    ]
    flood = [f"{opening} and once more {i:03}" for i in range(300)]
    labels = linked([*family, *flood], signed([*family, *flood], 0.6, 5), 0.6, 5)
    assert labels.tolist() == [*range(300), *[300] * 300]


def test_the_second_half_finds_every_pair_on_two_sides(texts: list[str], brute: Brute) -> None:
    parts = np.random.RandomState(3).randint(0, 3, len(texts))
    expected = {pair for pair in brute(texts[:1500], 0.5) if parts[pair[0]] != parts[pair[1]]}
    found = across(texts, signed(texts, 0.5, 5), parts, 0.5, 5)
    named = set(zip(found.left.tolist(), found.right.tolist(), strict=True)) - {(1502, 1503)}
    assert named == expected and len(expected) > 10


def test_new_texts_meet_old_ones_by_kept_bands(texts: list[str], brute: Brute) -> None:
    few, many = texts[:300], texts[300:1500]
    bands = signed(few, 0.5, 5), signed(many, 0.5, 5)
    left, right = met(*bands, np.arange(len(many)), 0.5)
    found = compared_with(few, many, left, right, 0.5, 5)
    expected = {(i, j - 300) for i, j in brute(texts[:1500], 0.5) if i < 300 <= j}
    assert set(zip(found.left.tolist(), found.right.tolist(), strict=True)) == expected and len(expected) > 10


def test_what_is_kept_of_a_text_depends_on_nothing_beside_it(texts: list[str]) -> None:
    every, some = signed(texts, 0.5, 5), signed(texts[700:900], 0.5, 5)
    for one, other in zip(every.take(np.arange(700, 900)), some, strict=True):
        assert np.array_equal(one, other)
