"""Nights as segments: what a side holds is what the ledger says, and no row is written twice."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.split import split
from tests.splits.conftest import a_night, leaks
from tunemill import segments
from tunemill.artifacts import BenchmarkFiles, CleanDataset, Splits, digest_of
from tunemill.dedup.text import normalise, prompt_text
from tunemill.errors import DataError
from tunemill.rows import Row
from tunemill.splits import SIDES, Entry, SplitSettings
from tunemill.splits.columns import Columns
from tunemill.splits.ledger import Grouping, Ledger, groups_in, read
from tunemill.store import Store

ASKED = SplitSettings()
Name = tuple[str, str, int]


def name(row: Row) -> Name:
    return row.row_id, row.source, row.line


def cleaned(store: Store, parts: Sequence[Sequence[Row]]) -> CleanDataset:
    """Seal rows as a clean dataset that has one segment for each file."""
    key = digest_of([[name(row) for row in part] for part in parts])
    with store.work("deduplicate", key) as work:
        (work.folder / "rows").mkdir()
        for number, part in enumerate(parts):
            segments.write(work.folder / "one", part)
            (work.folder / "one" / segments.name(0)).rename(work.folder / "rows" / segments.name(number))
            (work.folder / "one").rmdir()
        work.seal(CleanDataset)
        return store.commit(work, CleanDataset, {}, {})


def deal(store: Store, parts: Sequence[Sequence[Row]], previous: Splits | None, asked: SplitSettings = ASKED) -> Splits:
    return split.run(store, cleaned(store, parts), previous, BenchmarkFiles(files=()), asked)


def stand(store: Store, made: Splits) -> dict[Name, str]:
    """Give the side of every row, read through the segments; no row may stand twice."""
    found = [(name(row), side) for side in SIDES for row in segments.read(store.open(made) / side)]
    assert len(dict(found)) == len(found)
    return dict(found)


def ledger_of(store: Store, made: Splits) -> Ledger:
    folder = store.open(made)
    return read(folder / "ledger", Grouping(0.5, True, True), folder / "prompts")


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 30), min_size=1, max_size=5), st.booleans())
def test_after_any_nights_the_sides_are_what_the_ledger_says_and_nothing_tested_ever_trains(
    tmp_path_factory: pytest.TempPathFactory, seed: int, sizes: list[int], newest_first: bool
) -> None:
    draw, store = Random(seed), Store(tmp_path_factory.mktemp("store"))
    every = [a_night(draw, 0, 60), *(a_night(draw, number, size) for number, size in enumerate(sizes, start=1))]
    stood: dict[tuple[str, str | None, str | None], str] = {}
    previous: Splits | None = None
    for night in range(len(every)):
        parts = every[: night + 1][:: -1 if newest_first else 1]
        kept = [[row for row in part if draw.random() < 0.8] for part in parts] if night else parts
        previous = made = deal(store, kept, previous)
        folder, now = store.open(made), stand(store, made)
        bridges = {(b["row_id"], b["source"], b["line"]) for b in map(orjson.loads, lines(folder / "bridges.jsonl"))}
        rows = {name(row): row for part in kept for row in part}
        assert set(now) | bridges == set(rows) and not set(now) & bridges
        entries = {e.name: e for e in (Entry(*values) for values in zip(*ledger_of(store, made).entries, strict=True))}
        for each, side in now.items():
            row = rows[each]
            entry = entries[row.row_id, row.conversation or "", row.user or ""]
            assert entry.side == side == stood.setdefault((row.row_id, row.conversation, row.user), side)
            assert entry.text == normalise(prompt_text(row))
        assert leaks(entries.values()) == []
        certificate = orjson.loads((folder / "certificate.json").read_bytes())
        assert certificate["rows"] == {side: list(now.values()).count(side) for side in SIDES}
        groups = groups_in(folder, Columns.of([rows[each] for each in now]).table).tolist()
        assert certificate["largest_group"] == max(map(groups.count, groups), default=0)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_of_three_nights_no_byte_of_a_side_is_copied_and_what_is_gone_is_named(tmp_path: Path) -> None:
    draw, store = Random(1), Store(tmp_path)
    one, two, three = (a_night(draw, night, 60) for night in range(3))
    first = deal(store, [one], None)
    second = deal(store, [one[10:], two], first)
    third = deal(store, [one[5:], two[5:], three], second)
    folders = [store.open(made) for made in (first, second, third)]
    for side in SIDES:
        paths = [{path.name: path.stat().st_ino for path in segments.files(folder / side)} for folder in folders]
        assert paths[0].items() <= paths[1].items() <= paths[2].items() and len(paths[2]) <= 3
    gone = sum(len(at) for side in SIDES for at in segments.deleted(folders[1] / side).values())
    assert gone == len(set(stand(store, first)) - set(stand(store, second))) == 10
    back = {name(row) for row in one[5:10]} & set(stand(store, first))
    assert back and back <= set(stand(store, third))


def test_the_same_nights_give_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for root in (tmp_path / "a", tmp_path / "b"):
        draw, store = Random(3), Store(root)
        one, two = a_night(draw, 0, 60), a_night(draw, 1, 40)
        digests.add(deal(store, [one[8:], two], deal(store, [one], None)).digest)
    assert len(digests) == 1


def test_nights_that_look_prompts_up_by_their_bands_give_the_sides_that_an_exact_search_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for root, pairs in ((tmp_path / "exact", 10**9), (tmp_path / "bands", 0)):
        monkeypatch.setattr("tunemill.splits.grouping.COMPARISONS", pairs)
        draw, store = Random(5), Store(root)
        every = [a_night(draw, number, 60) for number in range(4)]
        made: Splits | None = None
        for number in range(4):
            made = deal(store, every[: number + 1], made)
        assert made is not None
        found.append(stand(store, made))
        method = orjson.loads((store.open(made) / "certificate.json").read_bytes())["method"]
        assert method == ("MinHash, another seed" if pairs == 0 else "every new row at the threshold")
    assert found[0] == found[1]


def test_a_lower_threshold_than_that_of_the_kept_bands_still_finds_what_is_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunemill.splits.grouping.COMPARISONS", 0)
    draw, store = Random(7), Store(tmp_path)
    one, two = a_night(draw, 0, 60), a_night(draw, 0, 60)
    narrow, wide = SplitSettings(group_threshold=0.8), SplitSettings(group_threshold=0.4)
    made = deal(store, [one, two], deal(store, [one], None, narrow), wide)
    entries = [Entry(*values) for values in zip(*ledger_of(store, made).entries, strict=True)]
    fresh = {row.row_id for row in two}
    crossed = [pair for pair in leaks(entries, 0.4) if set(pair) & fresh]
    assert crossed == []


def test_a_row_that_was_never_dealt_has_no_group(tmp_path: Path) -> None:
    draw, store = Random(9), Store(tmp_path)
    made = deal(store, [a_night(draw, 0, 30)], None)
    with pytest.raises(DataError, match=r"1 of 1 rows were never dealt there, the first [0-9a-f]{12}:1"):
        groups_in(store.open(made), Columns.of(a_night(draw, 5, 1)).table)
