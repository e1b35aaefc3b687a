from random import Random

import numpy as np
import pytest

from tests.dedup.conftest import Brute
from tunemill.dedup import pairs as module
from tunemill.dedup.clusters import clusters
from tunemill.dedup.components import components
from tunemill.dedup.overlap import Pairs, alike
from tunemill.dedup.pairs import linking_pairs, near_pairs
from tunemill.dedup.text import normalise, prompt_text
from tunemill.rows import Row


@pytest.fixture(scope="module")
def questions(banking: list[Row]) -> list[str]:
    return [normalise(prompt_text(row)) for row in banking]


def named(found: Pairs) -> dict[tuple[int, int], float]:
    pairs = zip(found.left.tolist(), found.right.tolist(), strict=True)
    return dict(zip(pairs, found.similarity.tolist(), strict=True))


def words(draw: Random, count: int) -> str:
    return " ".join("".join(draw.choices("abcdefghij", k=draw.randint(2, 9))) for _ in range(count))


def template_family(count: int) -> list[str]:
    """Give distinct texts that share more than half of their shingles, and none 70 %."""
    draw = Random(4)
    common = words(draw, 30)
    return [f"{common} {words(draw, 16)}" for _ in range(count)]


@pytest.mark.parametrize("threshold", [0.5, 0.7])
def test_near_pairs_are_those_of_brute_force(questions: list[str], brute: Brute, threshold: float) -> None:
    some = Random(1).sample(questions, 2_000)
    expected = brute(some, threshold)
    found = near_pairs(some, threshold)
    assert len(expected) > 20
    assert (
        dict(zip(zip(found.left.tolist(), found.right.tolist(), strict=True), found.similarity, strict=True))
        == expected
    )


def test_minhash_and_counting_find_the_same_pairs_in_10003_questions(questions: list[str]) -> None:
    found, exact = near_pairs(questions, 0.5), alike(questions, np.arange(len(questions)), 0.5, 5)
    assert len(exact.left) > 4_000
    assert all(np.array_equal(one, other) for one, other in zip(found, exact, strict=True))


def test_a_pair_exactly_at_the_threshold_is_found() -> None:
    # 7 shared shingles of 10: the first eleven letters against the first ten changed at the end.
    one, other = "abcdefghijkl", "abcdefghijkXY"
    assert near_pairs([one, other], 0.7).similarity.tolist() == [7 / 10]
    assert near_pairs([one, other], 0.7000001).similarity.tolist() == []


def test_shingles_are_characters_in_every_script() -> None:
    # Five Greek letters are one shingle, though they are ten bytes.
    assert near_pairs(["αβγδε", "αβγδεζ"], 0.5).similarity.tolist() == [0.5]


def test_short_texts_pair_only_with_identical_ones_and_empty_ones_never() -> None:
    found = near_pairs(["yes", "", "yep", "yes", "", "yes please"], 0.1)
    assert named(found) == {(0, 3): 1.0}


def test_crowded_buckets_lose_no_pair(monkeypatch: pytest.MonkeyPatch, questions: list[str], brute: Brute) -> None:
    family = template_family(150)
    twins = [text.replace("a", "b", 3) for text in family[::5]]
    texts = [*Random(2).sample(questions, 150), *family, *twins]
    expected = brute(texts, 0.7)
    monkeypatch.setattr(module, "CROWD", 2)
    found = near_pairs(texts, 0.7)
    assert (
        dict(zip(zip(found.left.tolist(), found.right.tolist(), strict=True), found.similarity, strict=True))
        == expected
    )
    left, right = np.array(list(expected)).T
    assert clusters(texts, 0.7).tolist() == components(len(texts), left, right).tolist()


def test_linking_pairs_connect_what_all_pairs_connect(questions: list[str]) -> None:
    every, some = near_pairs(questions, 0.5), linking_pairs(questions, 0.5)
    count = len(questions)
    assert len(some.left) < len(every.left)
    assert np.array_equal(components(count, *some[:2]), components(count, *every[:2]))


def test_a_family_of_templates_is_not_merged(brute: Brute) -> None:
    family = template_family(300)
    assert min(brute(family[:40], 0.01).values()) > 0.4
    assert len(set(clusters(family, 0.7).tolist())) == 300


def test_10000_copies_that_differ_in_a_number_are_one_cluster() -> None:
    spam = [f"your order {i} has left us and will be with you soon please do not reply to this" for i in range(10_000)]
    assert set(clusters(spam, 0.7).tolist()) == {0}


def test_planted_near_duplicates_are_found(questions: list[str]) -> None:
    labels = clusters(questions, 0.5)
    alone = [text for i, text in enumerate(questions) if (labels == labels[i]).sum() == 1 and len(text) > 60][:500]
    planted = [f"{text[:30]}x{text[30:]}" for text in alone]
    assert clusters([*alone, *planted], 0.7).tolist() == [*range(500), *range(500)]


def test_the_label_is_the_smallest_index_of_the_cluster() -> None:
    texts = ["something else entirely", "please send my card", "please send my carb", "please send my card"]
    assert clusters(texts, 0.7).tolist() == [0, 1, 1, 1]


def test_without_near_only_identical_texts_are_one() -> None:
    texts = ["please send my card", "please send my carb", "please send my card"]
    assert clusters(texts, 0.7, near=False).tolist() == [0, 1, 0]


def test_shuffled_texts_form_the_same_clusters(questions: list[str]) -> None:
    order = list(range(len(questions)))
    Random(3).shuffle(order)
    labels, shuffled = clusters(questions, 0.5), clusters([questions[i] for i in order], 0.5)
    groups: dict[int, set[int]] = {}
    again: dict[int, set[int]] = {}
    for i, label in enumerate(labels.tolist()):
        groups.setdefault(label, set()).add(i)
    for place, label in enumerate(shuffled.tolist()):
        again.setdefault(label, set()).add(order[place])
    assert sorted(map(sorted, groups.values())) == sorted(map(sorted, again.values()))
