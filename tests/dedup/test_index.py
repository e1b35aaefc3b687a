import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.data.corpus import conversations
from tests.dedup.conftest import as_columns
from tests.dedup.plain import clean
from tunemill.dedup.index import extend, grow, labels, parameters_of, similarities
from tunemill.dedup.judged import places_of
from tunemill.dedup.segments import HEADER, Segment, compact, open_segments, to_compact
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.errors import ArtifactDamaged, ConfigError, StoreError
from tunemill.rows import Message, Row, make_row

SETTINGS = DeduplicateSettings()
Nights = Sequence[Sequence[Row]]
Kept = dict[tuple[str, str, int], tuple[str, str, int]]


def row(text: str, line: int = 1, time: str | None = None) -> Row:
    return make_row([Message("user", text)], "a" * 64, line, time=time)


def grown(nights: Nights, folder: Path, settings: DeduplicateSettings = SETTINGS) -> list[Segment]:
    segments: list[Segment] = []
    for number, rows in enumerate(nights):
        segments.append(grow(segments, as_columns(rows), settings, folder / str(number)))
    return segments


def kept(segments: Sequence[Segment]) -> Kept:
    """Name for each place the place of the row that stays."""
    places = places_of(segments, np.arange(sum(segment.header.rows for segment in segments)))
    found = labels(segments)
    assert found.size == len(places)
    return {place: places[int(label)] for place, label in zip(places, found, strict=True)}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def planted() -> list[Row]:
    return [
        make_row(
            [Message("user", c.prompt), Message("assistant", c.answer)], "b" * 64, line, time=f"2026-01-{line:08d}"
        )
        for line, c in enumerate(conversations(20_000, answer_words=(4, 40)), start=1)
    ]


@pytest.fixture(scope="module")
def batch(planted: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return kept(grown([planted], tmp_path_factory.mktemp("batch")))


def test_ten_nights_of_20000_shuffled_rows_give_the_labels_of_one_batch(
    planted: list[Row], batch: Kept, tmp_path: Path
) -> None:
    shuffled = Random(1).sample(planted, len(planted))
    nights = grown([shuffled[k::10] for k in range(10)], tmp_path)
    assert kept(nights) == batch
    assert sum(here != stays for here, stays in batch.items()) > 1_900


def test_ten_nights_of_20000_rows_in_order_give_the_labels_of_one_batch(
    planted: list[Row], batch: Kept, tmp_path: Path
) -> None:
    assert kept(grown([planted[k : k + 2_000] for k in range(0, 20_000, 2_000)], tmp_path)) == batch


def test_of_shuffled_rows_only_where_they_stand_differs(planted: list[Row], tmp_path: Path) -> None:
    rows = planted[:3_000]
    one, other = (
        grown([order], tmp_path / name)[0] for name, order in (("1", rows), ("2", Random(2).sample(rows, 3_000)))
    )
    differs = {name for name, data in bytes_of(one.folder).items() if bytes_of(other.folder)[name] != data}
    assert differs == {"at.npy", HEADER}


def test_998_of_1000_planted_copies_are_found_and_nothing_else(batch: Kept) -> None:
    truth = list(conversations(20_000, answer_words=(4, 40)))
    dropped = np.array([place != stays for place, stays in sorted(batch.items(), key=lambda item: item[0][2])])
    copy = np.array([c.origin != number for number, c in enumerate(truth)])
    assert dropped[copy].mean() >= 0.98
    assert (copy[dropped]).all()
    wrong = [p for p, stays in batch.items() if p != stays and truth[p[2] - 1].origin != truth[stays[2] - 1].origin]
    assert wrong == []


def test_the_labels_are_those_of_the_batch_engine(planted: list[Row], batch: Kept) -> None:
    found = clean(planted, SETTINGS)
    stays = {d.line: d.kept_line for d in found.duplicates}
    assert {here[2]: there[2] for here, there in batch.items() if here != there} == stays


@settings(max_examples=60, deadline=None)
@given(
    words=st.lists(
        st.lists(st.sampled_from(["ab", "cd", "efgh", "?", "é", "你"]), max_size=9), min_size=1, max_size=24
    ),
    times=st.lists(st.sampled_from([None, "2025", "2026"]), min_size=24, max_size=24),
    seed=st.integers(0, 1_000),
    nights=st.integers(1, 5),
)
def test_any_rows_in_any_order_and_any_nights_are_labelled_as_in_one_batch(
    tmp_path_factory: pytest.TempPathFactory,
    words: list[list[str]],
    times: list[str | None],
    seed: int,
    nights: int,
) -> None:
    folder, draw = tmp_path_factory.mktemp("any"), Random(seed)
    rows = [row(" ".join(text), line, times[line % 24]) for line, text in enumerate(words)]
    dealt: list[list[Row]] = [[] for _ in range(nights)]
    for one in draw.sample(rows, len(rows)):
        dealt[draw.randrange(nights)].append(one)
    low = DeduplicateSettings(threshold=0.4)
    assert kept(grown(dealt, folder / "nights", low)) == kept(grown([rows], folder / "batch", low))


def test_the_digest_is_the_same_in_another_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; sys.path.insert(0, '.'); from tests.dedup.test_index import *; "
        "print(grown([[row(f'where is order {k % 7}', k) for k in range(20)]], pathlib.Path(sys.argv[1]))[0].digest)"
    )
    done = [
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, text=True, check=True)
        for name in "12"
    ]
    assert len(done[0].stdout.strip()) == 32
    assert done[0].stdout == done[1].stdout


def test_a_later_night_changes_no_byte_of_an_earlier_segment(planted: list[Row], tmp_path: Path) -> None:
    first = grown([planted[:500]], tmp_path)
    before = bytes_of(first[0].folder)
    grow(first, as_columns(planted[500:1_000]), SETTINGS, tmp_path / "second")
    assert bytes_of(first[0].folder) == before


def test_an_older_row_of_a_later_night_stays_and_earlier_labels_can_be_derived(tmp_path: Path) -> None:
    late, early = row("please send the invoice", 1, "2026-02-01"), row("Please send the INVOICE!", 2, "2026-01-01")
    segments = grown([[late], [early]], tmp_path)
    assert labels(segments[:1]).tolist() == [0]
    assert labels(segments).tolist() == [1, 1]


def test_a_row_that_connects_two_clusters_of_other_nights_makes_them_one(tmp_path: Path) -> None:
    # 10 letters make 6 shingles; each text shares 5 of 7 with the next, the first and the last 4 of 8.
    ends, middle = ["abcdefghij", "cdefghijkl"], "bcdefghijk"
    half = DeduplicateSettings(threshold=0.6)
    segments = grown([[row(ends[0], 1)], [row(ends[1], 2)], [row(middle, 3)]], tmp_path, half)
    assert labels(segments[:2]).tolist() == [0, 1]
    assert labels(segments).tolist() == [0, 0, 0]


def test_an_index_is_extended_by_a_segment_and_small_ones_become_one(planted: list[Row], tmp_path: Path) -> None:
    segments: list[Segment] = []
    for night, (start, end) in enumerate([(0, 3_000), (3_000, 3_100), (3_100, 3_150), (3_150, 3_150)]):
        segments = extend(segments, as_columns(planted[start:end]), SETTINGS, tmp_path / str(night))
        again = open_segments([segment.folder for segment in segments])
        assert [segment.folder for segment in again] == sorted((tmp_path / str(night)).iterdir())
    assert [segment.header.rows for segment in segments] == [3_000, 150]
    assert (segments[0].folder / HEADER).stat().st_nlink == 4
    assert np.array_equal(labels(segments), labels(grown([planted[:3_150]], tmp_path / "batch")))


def test_a_row_that_is_dropped_leaves_its_place_to_the_next_oldest(tmp_path: Path) -> None:
    rows = [row("where is my order", 1), row("Where is my order?", 2), row("please send the invoice", 3)]
    segments = grown([rows[1:], rows[:1]], tmp_path)
    assert labels(segments).tolist() == [2, 1, 2]
    assert labels(segments, np.array([False, False, True])).tolist() == [0, 1, 0]
    assert labels(segments, np.array([True, False, True])).tolist() == [-1, 1, -1]


def test_empty_texts_and_short_texts_pair_only_where_they_are_equal(tmp_path: Path) -> None:
    segments = grown([[row("", 1), row("hi", 2)], [row("", 3), row("Hi!", 4), row("ho", 5)]], tmp_path)
    assert labels(segments).tolist() == [0, 1, 2, 1, 4]


def test_with_near_switched_off_only_equal_text_is_linked(tmp_path: Path) -> None:
    rows = [row("please send my new card", 1), row("please send my new carb", 2), row("PLEASE send my new card", 3)]
    segments = grown([rows[:1], rows[1:]], tmp_path, DeduplicateSettings(near=False))
    assert labels(segments).tolist() == [0, 1, 0]


def test_similarities_are_exact_across_segments(tmp_path: Path) -> None:
    # "abcdefghijkl yes" and "abcdefghijkx yes": 12 five-letter shingles each, of which 7 stand in both.
    segments = grown([[row("abcdefghijkl yes", 1)], [row("abcdefghijkx yes", 2), row("ABCDEFGHIJKL yes", 3)]], tmp_path)
    found = similarities(segments, np.array([1, 2, 1]), np.array([0, 0, 1]))
    assert found.tolist() == [7 / 17, 1.0, 1.0]


def test_a_text_beyond_ascii_is_read_back_as_it_was_normalised(tmp_path: Path) -> None:
    segment = grown([[row("Wo ist \u6211\u7684 Bestellung (à Zürich)?", 1), row("ok!", 2)]], tmp_path)[0]
    assert [segment.text(0), segment.text(1)] == ["wo ist \u6211\u7684 bestellung à zürich", "ok"]


def test_compacted_segments_keep_every_label_and_the_sources_their_bytes(planted: list[Row], tmp_path: Path) -> None:
    shuffled = Random(3).sample(planted, 4_000)
    segments = grown([shuffled[k::4] for k in range(4)], tmp_path)
    before = [bytes_of(segment.folder) for segment in segments]
    merged = open_segments([segments[0].folder, compact(segments, 3, tmp_path / "merged").folder])
    assert np.array_equal(labels(merged), labels(segments))
    assert [bytes_of(segment.folder) for segment in segments] == before
    more = shuffled[:50]
    after = [grow(old, as_columns(more), SETTINGS, tmp_path / name) for name, old in (("a", merged), ("b", segments))]
    assert np.array_equal(labels([*merged, after[0]]), labels([*segments, after[1]]))


@pytest.mark.parametrize(
    ("sizes", "more", "taken"), [([], 10, 0), ([1_000, 10], 10, 1), ([1_000, 41], 10, 0), ([100, 30, 10], 10, 3)]
)
def test_small_segments_are_taken_into_the_next(sizes: list[int], more: int, taken: int) -> None:
    assert to_compact(sizes, more) == taken


def damage(change: Callable[[bytearray], object], path: Path) -> None:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)


@pytest.fixture
def two(tmp_path: Path) -> list[Segment]:
    return grown([[row("where is my order", 1)], [row("where is my order?", 2)]], tmp_path)


def test_a_flipped_bit_is_named_with_its_segment_and_file(two: list[Segment]) -> None:
    damage(lambda data: data.__setitem__(-1, data[-1] ^ 1), two[1].folder / "bands.npy")
    with pytest.raises(ArtifactDamaged, match=r"/1/bands\.npy: the bytes have CRC-32 [0-9a-f]{8}, written were"):
        open_segments([segment.folder for segment in two])


def test_a_cut_file_is_named_even_where_bytes_are_not_checked(two: list[Segment]) -> None:
    damage(lambda data: data.pop(), two[0].folder / "line.npy")
    with pytest.raises(ArtifactDamaged, match=r"/0/line\.npy: 135 bytes where 136 were written"):
        open_segments([segment.folder for segment in two], check=False)


def test_a_changed_header_is_named(two: list[Segment]) -> None:
    damage(lambda data: data.extend(b"x"), two[0].folder / HEADER)
    with pytest.raises(ArtifactDamaged, match=r"/0/segment\.json: not the header of a segment"):
        open_segments([two[0].folder])


def test_a_segment_that_does_not_follow_is_named(two: list[Segment]) -> None:
    with pytest.raises(StoreError, match=r"/1: begins at row 1 after segment [0-9a-f]{12}, but nothing ends at row 0"):
        open_segments([two[1].folder])


def test_another_threshold_needs_another_index(two: list[Segment], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"made with threshold 0\.7, .* asked for are 0\.8"):
        grow(two, as_columns([]), DeduplicateSettings(threshold=0.8), tmp_path / "x")


def test_a_night_without_rows_is_a_segment_without_rows(two: list[Segment], tmp_path: Path) -> None:
    empty = grow(two, as_columns([]), SETTINGS, tmp_path / "empty")
    assert np.array_equal(labels([*two, empty]), labels(two))
    assert open_segments([*(segment.folder for segment in two), empty.folder])[2].digest == empty.digest


def test_38_bands_of_5_are_used_at_the_default_threshold() -> None:
    assert (parameters_of(SETTINGS).bands, parameters_of(SETTINGS).rows) == (38, 5)
