from random import Random

import numpy as np
import pytest

from tests.dedup.conftest import Brute
from tunemill.dedup import crossings as module
from tunemill.dedup.crossings import crossings
from tunemill.dedup.text import normalise, prompt_text
from tunemill.rows import Row


@pytest.fixture(scope="module")
def sample(banking: list[Row]) -> tuple[list[str], np.ndarray]:
    texts = [normalise(prompt_text(row)) for row in Random(7).sample(banking, 1_500)]
    return texts, np.random.RandomState(7).randint(0, 3, len(texts))


def test_every_pair_is_counted_where_there_are_few(sample: tuple[list[str], np.ndarray], brute: Brute) -> None:
    texts, parts = sample
    across = {pair: s for pair, s in brute(texts, 0.01).items() if parts[pair[0]] != parts[pair[1]]}
    found = crossings(texts, parts, 0.5)
    assert found.method == "every pair"
    assert found.highest == max(across.values())
    expected = [pair for pair, s in across.items() if s >= 0.5]
    assert len(expected) > 20
    assert list(zip(found.pairs.left.tolist(), found.pairs.right.tolist(), strict=True)) == expected


def test_the_highest_similarity_is_known_below_the_threshold() -> None:
    found = crossings(["abcdefgh", "abcdefxy"], np.array([0, 1]), 0.9)
    assert found.highest == 2 / 6
    assert len(found.pairs.left) == 0


def test_all_three_methods_find_the_same(monkeypatch: pytest.MonkeyPatch, sample: tuple[list[str], np.ndarray]) -> None:
    texts, parts = sample
    every = crossings(texts, parts, 0.6)
    monkeypatch.setattr(module, "CHARACTERS", 0)
    rare = crossings(texts, parts, 0.6)
    monkeypatch.setattr(module, "COMPARISONS", 0)
    hashed = crossings(texts, parts, 0.6)
    assert [rare.method, hashed.method] == ["every pair at the threshold", "MinHash, another seed"]
    assert all(np.array_equal(one, other) for one, other in zip(every.pairs, rare.pairs, strict=True))
    assert all(np.array_equal(one, other) for one, other in zip(hashed.pairs, every.pairs, strict=True))


def test_a_short_prompt_on_two_sides_is_found() -> None:
    assert crossings(["hi", "hi", "ho"], np.array([0, 1, 1]), 0.5).pairs.similarity.tolist() == [1.0]


def test_pairs_on_one_side_are_no_leak() -> None:
    found = crossings(["the very same question"] * 2 + ["nothing of the kind"], np.array([0, 0, 1]), 0.5)
    assert len(found.pairs.left) == 0


def test_empty_texts_are_alike_to_nothing() -> None:
    found = crossings(["", "", ""], np.array([0, 1, 2]), 0.5)
    assert (len(found.pairs.left), found.highest) == (0, 0.0)
