"""Split as a stage: nights in a store, what is found again, and what is left out."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from tasks import trace_row, trace_text
from tasks.history import note_files, previous_splits
from tasks.split import benchmark_files, split
from tasks.trace_row import Place
from tests.splits.conftest import row
from tunemill import rows, segments
from tunemill.artifacts import BenchmarkFiles, CleanDataset, RawDataset, SourceFile, SourceFiles, Splits, digest_of
from tunemill.errors import DataError, StoreError
from tunemill.home import Home
from tunemill.rows import Row
from tunemill.splits import SIDES, SplitSettings
from tunemill.store import Store, Work

ASKED = SplitSettings()
NONE = BenchmarkFiles(files=())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def files(names: str) -> SourceFiles:
    return SourceFiles(files=tuple(SourceFile(sha256=name * 64, path=f"/logs/{name}.jsonl") for name in names))


def day(name: str, size: int = 30) -> list[Row]:
    start = ord(name) * 1_000
    return [row(start + i, source=name, user=f"{name}{i}") for i in range(size)]


def cleaned(store: Store, names: str, kept: Sequence[Row]) -> CleanDataset:
    """Seal rows as if they had been ingested from the named files and cleaned."""

    def sealed(stage: type[RawDataset] | type[CleanDataset], made_from: dict[str, str]) -> Work:
        with store.work(stage.stage, digest_of([names, len(kept)])) as work:
            segments.write(work.folder / "rows", kept)
            if stage is RawDataset:
                note_files(work, files(names))
            work.seal(stage)
            store.commit(work, stage, {"files": names, "rows": len(kept)}, made_from)
            return work

    raw = sealed(RawDataset, {})
    work = sealed(CleanDataset, {"raw": f"ingest/{raw.key}"})
    manifest = store.manifest("deduplicate", work.key)
    assert manifest is not None
    return manifest.artifact(CleanDataset)


def night(store: Store, names: str, settings: SplitSettings = ASKED, without: str = "") -> Splits:
    """Split all rows of the named files but those of some, after the night that the store knows."""
    kept = [each for name in names if name not in without for each in day(name)]
    previous = previous_splits(store, files(names), settings.decisions())
    return split.run(store, cleaned(store, names, kept), previous, NONE, settings)


def sides(store: Store, made: Splits) -> dict[str, str]:
    folder = store.open(made)
    return {each.row_id: side for side in SIDES for each in segments.read(folder / side)}


def test_seven_nights_keep_every_side_and_copy_no_byte(store: Store) -> None:
    stood: dict[str, str] = {}
    for number in range(1, 8):
        made = night(store, "abcdefg"[:number])
        now = sides(store, made)
        assert {row_id: now[row_id] for row_id in stood} == stood
        stood = now
    assert made.counts == {
        **{"train": 168, "validation": 21, "test": 21, "bridges": 0, "contaminated": 0},
        **{"ledger": 210, "nights": 7},
    }
    segments = sorted((store.open(made) / "ledger").iterdir())
    assert [segment.name for segment in segments] == [f"{n:04}.parquet" for n in range(7)]
    assert [segment.stat().st_nlink for segment in segments] == [7, 6, 5, 4, 3, 2, 1]


def test_the_same_night_again_finds_its_own_folder(store: Store) -> None:
    night(store, "a")
    made = night(store, "ab")
    night(store, "abc")
    assert night(store, "ab") == made
    assert previous_splits(store, files("a")) is None


def test_a_night_with_one_more_file_finds_last_nights(store: Store) -> None:
    night(store, "a")
    last = night(store, "ab")
    assert previous_splits(store, files("abc")) == last
    assert previous_splits(store, files("cba")) == last


def test_unrelated_files_find_no_earlier_night(store: Store) -> None:
    night(store, "ab")
    assert previous_splits(store, files("acd")) is None
    assert previous_splits(store, files("xyz")) is None


def test_a_night_that_was_deleted_leaves_its_rows_on_their_sides(store: Store) -> None:
    night(store, "a")
    second = night(store, "ab")
    third = night(store, "abc")
    stood = sides(store, third)
    shutil.rmtree(store.folder("split", second.key))
    assert previous_splits(store, files("abcd")) == third
    now = sides(store, night(store, "abcd"))
    assert {row_id: now[row_id] for row_id in stood} == stood
    shutil.rmtree(store.folder("split", third.key))
    first_again = previous_splits(store, files("abc"))
    assert first_again is not None and first_again.counts["nights"] == 1


def test_rows_whose_file_no_longer_gives_any_are_remembered(store: Store) -> None:
    stood = sides(store, night(store, "a"))
    night(store, "ab", without="a")
    now = sides(store, night(store, "abc"))
    assert {row_id: now[row_id] for row_id in stood} == stood


def test_a_night_without_a_new_row_adds_an_empty_segment(store: Store) -> None:
    first = night(store, "a")
    made = night(store, "ab", without="b")
    assert sides(store, made) == sides(store, first)
    assert made.counts["ledger"] == 30 and made.counts["nights"] == 2


def test_of_two_splits_of_the_same_files_the_one_with_tonights_settings_is_taken(store: Store) -> None:
    other = night(store, "a", SplitSettings(seed=1))
    mine = night(store, "a")
    assert previous_splits(store, files("ab"), ASKED.decisions()) == mine
    assert previous_splits(store, files("ab"), SplitSettings(seed=1).decisions()) == other


def test_a_damaged_ledger_stops_the_night(store: Store) -> None:
    made = night(store, "a")
    path = store.folder("split", made.key) / "ledger" / "0000.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match=r"ledger/0000.parquet is damaged.*rows earlier nights tested"):
        previous_splits(Store(store.root), files("ab"))


def test_a_row_that_is_left_out_is_listed_with_both_its_neighbours(store: Store) -> None:
    stood = sides(store, night(store, "a"))
    users = {side: next(r.user for r in day("a") if stood[r.row_id] == side) for side in SIDES}
    bridge = row(1, source="b", user=users["train"], conversation="c")
    tied = row(2, source="b", user=users["test"], conversation="c")
    clean = cleaned(store, "ab", [*day("a"), bridge, tied])
    made = split.run(store, clean, previous_splits(store, files("ab")), NONE, ASKED)
    assert (made.counts["bridges"], made.counts["ledger"]) == (1, 31)
    (listed,) = rows.read_lines(store.open(made) / "bridges.jsonl")
    assert (listed["row_id"], listed["line"]) == (bridge.row_id, 1)
    assert [(n["side"], n["by"]) for n in listed["neighbours"]] == [("train", "user"), ("test", "conversation")]
    manifest = store.manifest("split", made.key)
    assert manifest is not None
    step = trace_row._split(store, [manifest], Place(bridge.row_id, bridge.source, bridge.line))
    assert trace_text._outcome(step) == "left out: its neighbours stand on two sides (bridges.jsonl)"
    assert orjson.loads((store.open(made) / "certificate.json").read_bytes())["bridges"] == 1


def test_train_rows_that_hold_a_benchmarks_item_are_left_out_and_listed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    Home.find().enter()
    clean = cleaned(store, "a", day("a"))
    plain = split.run(store, clean, None, NONE, ASKED)
    stood = sides(store, plain)
    trained, tested = (next(r for r in day("a") if stood[r.row_id] == side) for side in ("train", "test"))
    keys = set()
    for name in ("bench.txt", "renamed.txt"):
        (tmp_path / name).write_text(
            "\n".join(f"{r.messages[0].content} one two three four" for r in (tested, trained))
        )
        asked = SplitSettings(benchmarks=(str(tmp_path / name),))
        made = split.run(store, clean, None, benchmark_files(asked), asked)
        keys.add(made.key)
    assert len(keys) == 1 and made.key != plain.key
    assert sides(store, made) == {row_id: side for row_id, side in stood.items() if row_id != trained.row_id}
    (listed,) = rows.read_lines(store.open(made) / "contaminated.jsonl")
    assert (listed["row_id"], listed["benchmark_line"], listed["kind"]) == (trained.row_id, 2, "near-duplicate")
    assert (made.counts["contaminated"], made.counts["ledger"]) == (1, 30)


def test_a_benchmark_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"split.benchmarks: `no/such\*.jsonl` stands for no file"):
        benchmark_files(SplitSettings(benchmarks=("no/such*.jsonl",)))
