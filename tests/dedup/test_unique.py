"""The proof that no text is left twice."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.dedup.conftest import as_columns
from tunemill.dedup.index import grow, text_hashes
from tunemill.dedup.segments import Segment
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.dedup.unique import require_unique, text_keys
from tunemill.errors import DataError
from tunemill.rows import Message, make_row

TEXTS = ("Where is it?", "There", "where is IT", "", "")


@pytest.fixture
def segments(tmp_path: Path) -> list[Segment]:
    """Five rows in two nights: the third says what the first does, and the last two say nothing."""
    rows = [make_row([Message("user", text)], "a" * 64, line) for line, text in enumerate(TEXTS)]
    made: list[Segment] = []
    for number, some in enumerate((rows[:2], rows[2:])):
        made.append(grow(made, as_columns(some), DeduplicateSettings(), tmp_path / str(number)))
    return made


def test_two_kept_rows_with_one_text_are_named(segments: list[Segment]) -> None:
    with pytest.raises(DataError, match="rows 0 and 2 of the index are both left"):
        require_unique(segments, np.ones(5, np.bool_))


def test_equal_bytes_under_two_numbers_are_found(segments: list[Segment], tmp_path: Path) -> None:
    alone = make_row([Message("user", "There")], "b" * 64, 9)
    other = grow(segments[:1], as_columns([alone]), DeduplicateSettings(), tmp_path / "other")
    path = other.folder / "text.npy"
    assert np.load(path).tolist() == [1]
    twice = grow([], as_columns([alone]), DeduplicateSettings(), tmp_path / "twice")
    shifted = msgspec.structs.replace(twice.header, first_row=2, first_text=2)
    np.save(twice.folder / "text.npy", np.array([2]))
    with pytest.raises(DataError, match="rows 1 and 2 of the index"):
        require_unique([segments[0], Segment(twice.folder, shifted)], np.ones(3, np.bool_))


def test_rows_that_say_nothing_and_the_rest_are_unique(segments: list[Segment]) -> None:
    kept = np.array([True, True, False, True, True])
    require_unique(segments, kept)
    assert len(set(text_keys(segments, np.flatnonzero(kept)))) == 2


def test_keys_are_hashes_of_the_texts_and_leave_out_rows_that_say_nothing(segments: list[Segment]) -> None:
    keys = text_keys(segments, np.arange(5))
    assert len(keys) == 3 and keys[0] == keys[2] != keys[1]
    assert keys[1] == int(text_hashes(segments, np.array([1])).view(np.int64)[0])
