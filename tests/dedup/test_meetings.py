from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dedup.conftest import Brute
from tunemill.dedup import bands as module
from tunemill.dedup.meetings import meetings
from tunemill.dedup.overlap import Pairs
from tunemill.dedup.text import normalise, prompt_text
from tunemill.rows import Row


def named(pairs: Pairs) -> dict[tuple[int, int], float]:
    places = zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
    return dict(zip(places, pairs.similarity.tolist(), strict=True))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
def test_of_2000_questions_200_new_ones_meet_all_that_brute_force_finds(
    banking: list[Row], brute: Brute, threshold: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STRETCH", 20_000)
    texts = [normalise(prompt_text(row)) for row in Random(3).sample(banking, 2_000)]
    expected = {(i, j - 200): s for (i, j), s in brute(texts, threshold).items() if i < 200 <= j}
    assert len(expected) > 5
    assert named(meetings(texts[:200], texts[200:], threshold)) == pytest.approx(expected)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text("ab", max_size=12), max_size=12),
    st.lists(st.text("ab", max_size=12), max_size=12),
    st.sampled_from([0.25, 0.5, 0.75, 1.0]),
)
def test_any_texts_of_two_letters_meet_as_their_sets_do(few: list[str], many: list[str], threshold: float) -> None:
    def shingles(text: str) -> set[str]:
        return {text[i : i + 5] for i in range(len(text) - 4)} or {text}

    expected = {
        (i, j): shared / (len(a) + len(b) - shared)
        for i, a in enumerate(map(shingles, few))
        for j, b in enumerate(map(shingles, many))
        if few[i] and many[j] and (shared := len(a & b)) >= threshold * (len(a) + len(b) - shared) and shared
    }
    assert named(meetings(few, many, threshold)) == pytest.approx(expected)


def test_a_run_is_met_once_and_one_part_never_meets_itself() -> None:
    many = ["where is my red card"] * 4 + ["where is my red cart"]
    runs, parts = np.array([0, 0, 1, 1, 1]), (np.array([2]), np.array([2, 0, 2, 2, 0]))
    assert list(named(meetings(many[:1], many, 0.5, runs=runs))) == [(0, 0), (0, 2)]
    assert list(named(meetings(many[:1], many, 0.5, runs=runs, parts=parts))) == [(0, 1), (0, 4)]


def test_a_text_shorter_than_a_shingle_meets_its_like_alone() -> None:
    assert list(named(meetings(["hi", ""], ["ho", "", "hi", "hi there"], 0.5))) == [(0, 2)]
