"""Nights of the deduplicate stage: which one before is found, and what happens where it is damaged."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.deduplicate import deduplicate
from tasks.history import previous_clean
from tunemill import rows, segments
from tunemill.artifacts import CleanDataset, ValidDataset, digest_of
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.errors import ArtifactDamaged
from tunemill.rows import Message, Row, make_row
from tunemill.store import Store

SETTINGS = DeduplicateSettings()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def row(number: int, source: str) -> Row:
    said = f"question {number * 7_919} about {number * number}"
    return make_row([Message("user", said), Message("assistant", "yes")], source * 64, number, time=f"2026-{number:04}")


def table(name: str) -> list[Row]:
    """Give 20 rows, of which the last is a copy of the first of table `a`."""
    return [*(row(100 * ord(name) + k, name) for k in range(19)), row(9_700, name)]


def valid(store: Store, names: str, **other: Sequence[Row]) -> ValidDataset:
    """Seal a table a name as validate does; `other` gives one of them other rows."""
    with store.work("validate", digest_of([names, sorted(other)])) as work:
        (work.folder / "rows").mkdir()
        for name in names:
            rows.write(work.folder / "rows" / f"{name * 64}.parquet", other.get(name) or table(name))
        work.seal(ValidDataset)
        return store.commit(work, ValidDataset, {}, {})


def night(store: Store, names: str, settings: DeduplicateSettings = SETTINGS, **other: Sequence[Row]) -> CleanDataset:
    """Deduplicate these tables after the night that the store knows."""
    of = valid(store, names, **other)
    return deduplicate.run(store, of, previous_clean(store, of, settings), settings)


def lines(store: Store, made: CleanDataset) -> list[int]:
    return [each.line for each in segments.read(store.open(made) / "rows")]


def test_three_nights_keep_what_one_batch_keeps(store: Store, tmp_path: Path) -> None:
    nights = [night(store, "abc"[:number]) for number in (1, 2, 3)]
    assert nights[2].counts == {
        **{"rows": 57, "exact_duplicates": 3, "near_duplicates": 0},
        **{"contradictions": 0, "dropped_contradictions": 0},
    }
    batch = Store(tmp_path / "batch")
    assert sorted(lines(store, nights[2])) == lines(batch, night(batch, "abc"))
    folder = store.open(nights[2])
    assert [path.name for path in segments.files(folder / "rows")] == [f"{n:04}.parquet" for n in range(3)]
    assert [path.stat().st_nlink for path in segments.files(folder / "rows")] == [3, 2, 1]


def test_the_largest_strict_subset_is_found_and_the_same_night_finds_its_own_folder(store: Store) -> None:
    assert previous_clean(store, valid(store, "abc"), SETTINGS) is None
    night(store, "a")
    second = night(store, "ab")
    third = night(store, "abc")
    assert previous_clean(store, valid(store, "abc"), SETTINGS) == second
    assert previous_clean(store, valid(store, "abcd"), SETTINGS) == third
    assert night(store, "abc") == third


def test_a_table_that_is_gone_or_holds_other_rows_leads_to_an_earlier_night_or_to_none(store: Store) -> None:
    first, _ = night(store, "a"), night(store, "ab")
    assert previous_clean(store, valid(store, "ac"), SETTINGS) == first
    assert previous_clean(store, valid(store, "abc", b=table("b")[:5]), SETTINGS) == first
    assert previous_clean(store, valid(store, "bc"), SETTINGS) is None
    assert lines(store, night(store, "bc")) == sorted(each.line for name in "bc" for each in table(name))[1:]


def test_a_night_with_other_settings_is_no_earlier_night(store: Store) -> None:
    night(store, "a")
    assert previous_clean(store, valid(store, "ab"), DeduplicateSettings(threshold=0.8)) is None


def test_a_damaged_segment_of_the_index_is_named(store: Store) -> None:
    made = night(store, "a")
    path = store.folder("deduplicate", made.key) / "index" / "0000" / "bands.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactDamaged, match=r"index/0000/bands\.npy: the bytes differ"):
        night(Store(store.root), "ab")
