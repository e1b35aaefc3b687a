"""Rows that come in nights, in any order, are kept, named and dropped as in one batch."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest

from tests.dedup.conftest import Clean, night
from tests.dedup.plain import clean
from tunemill import dedup, rows, segments
from tunemill.dedup.settings import ContradictionRule, DeduplicateSettings
from tunemill.rows import Message, Row, make_row

RULES: tuple[ContradictionRule, ...] = ("keep", "newest", "majority", "drop")
WORDS = (
    "order",
    "invoice",
    "parcel",
    "refund",
    "letter",
    "\u6211\u7684",
    "Stra\u00dfe",
    "\u0939\u093f\u0928",
    "?!",
    "\U0001f600",
)


def row(asked: str, answer: str, line: int, time: str | None = None, source: str = "a") -> Row:
    return make_row([Message("user", asked), Message("assistant", answer)], source * 64, line, time=time)


def planted(draw: Random, count: int) -> list[Row]:
    """Draw rows with exact and near copies, other answers to a prompt, turns of every role, times in disorder."""
    made: list[Row] = []
    while len(made) < count:
        asked = " ".join(draw.choice(WORDS) for _ in range(draw.randrange(1, 12)))
        asked = asked if draw.random() < 0.3 else f"Where is {draw.randrange(count // 4)} {asked[:9]}?"
        turns = [
            Message("user", asked),
            Message("assistant", draw.choice(["Yes, it is.", "no", "\u2026", f"see {asked}"])),
        ]
        if made and draw.random() < 0.5:
            turns = list(draw.choice(made).messages)
            change = draw.randrange(5)
            if change == 0:
                turns[-1] = Message(turns[-1].role, draw.choice(["Maybe.", "Yes, it is.", "NO!"]))
            elif change == 1:
                turns[0] = Message(turns[0].role, turns[0].content.upper() + "!")
            elif change == 2:
                turns = [Message("system", "Be brief."), *turns]
            elif change == 3:
                turns = [*turns, Message("user", "Thanks"), Message("tool", "{}")]
        time = draw.choice([None, f"2026-01-{draw.randrange(1, 9):02}"])
        made.append(make_row(turns, draw.choice("ab") * 64, len(made) // 2, time=time))
    return made


def dealt(draw: Random, some: Sequence[Row], tables: int) -> list[list[Row]]:
    parts: list[list[Row]] = [[] for _ in range(tables)]
    for one in draw.sample(some, len(some)):
        parts[draw.randrange(tables)].append(one)
    return parts


def as_sets(found: Clean) -> tuple[list[bytes], list[bytes], list[bytes]]:
    kept, duplicates, contradictions = (
        sorted(map(msgspec.json.encode, part)) for part in (found.kept, found.duplicates, found.contradictions)
    )
    return kept, duplicates, contradictions


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(4))
def test_any_nights_in_any_order_come_to_what_one_batch_does(
    rule: ContradictionRule, seed: int, tmp_path: Path
) -> None:
    draw = Random(seed)
    settings = DeduplicateSettings(contradictions=rule, threshold=draw.choice([0.4, 0.7]), near=seed % 4 > 0)
    some = planted(draw, 240)
    valid, before, seen = tmp_path / "valid", None, []
    valid.mkdir()
    tables = dealt(draw, some, 6)
    for number, stop in enumerate([*sorted(draw.sample(range(1, 6), draw.randrange(5))), 6]):
        new = {f"{draw.random()}.parquet": tables[k] for k in range(len(seen), stop)}
        seen = tables[:stop]
        found = night(new, valid, before, tmp_path / str(number), settings)
        assert as_sets(found) == as_sets(clean([row for part in seen for row in part], settings))
        before = found.folder


def test_two_thousand_rows_in_five_nights_have_thousands_of_copies_and_contradictions(tmp_path: Path) -> None:
    some = planted(Random(1), 2_000)
    valid, before = tmp_path / "valid", None
    valid.mkdir()
    for number, part in enumerate(dealt(Random(2), some, 5)):
        found = night({f"{number}.parquet": part}, valid, before, tmp_path / str(number), DeduplicateSettings())
        before = found.folder
    assert as_sets(found) == as_sets(clean(some, DeduplicateSettings()))
    assert len(found.duplicates) > 500 and len(found.contradictions) > 200


@pytest.fixture
def majority(tmp_path: Path) -> list[Clean]:
    """Three nights: Yes stands alone; two say No; two more say Yes."""
    (tmp_path / "valid").mkdir()
    answers, found, line = (["Yes"], ["No", "no!"], ["yes", "YES!"]), [], 0
    settings = DeduplicateSettings(contradictions="majority", near=False)
    for number, said in enumerate(answers):
        new = [row("Is it open?", answer, line + k) for k, answer in enumerate(said)]
        line += len(said)
        before = found[-1].folder if found else None
        found.append(night({f"{number}.parquet": new}, tmp_path / "valid", before, tmp_path / str(number), settings))
    return found


def test_a_row_comes_back_when_the_majority_turns(majority: list[Clean]) -> None:
    assert [[one.line for one in found.kept] for found in majority] == [[0], [1], [0]]
    assert [one.outcome for one in majority[2].contradictions] == [
        "kept",
        "dropped",
        "dropped",
        "duplicate",
        "duplicate",
    ]


def test_a_row_that_comes_back_stands_in_the_new_segment_and_no_byte_of_the_old_ones_changes(
    majority: list[Clean],
) -> None:
    folder = majority[2].folder
    assert folder is not None
    places = {path.name: [each.line for each in rows.read(path)] for path in segments.files(folder / "rows")}
    assert places == {"0000.parquet": [0], "0001.parquet": [1], "0002.parquet": [0]}
    assert {name: gone.tolist() for name, gone in segments.deleted(folder / "rows").items()} == {
        "0000.parquet": [0],
        "0001.parquet": [0],
    }
    assert (folder / "rows" / "0000.parquet").stat().st_nlink == 3


def test_a_table_without_rows_adds_no_segment(tmp_path: Path) -> None:
    (tmp_path / "valid").mkdir()
    first = night({"0.parquet": [row("a", "b", 1)]}, tmp_path / "valid", None, tmp_path / "0", DeduplicateSettings())
    found = night({"1.parquet": []}, tmp_path / "valid", first.folder, tmp_path / "1", DeduplicateSettings())
    assert found == first
    assert [len(list((tmp_path / "1" / name).iterdir())) for name in ("rows", "placed", "index")] == [1, 1, 1]


def test_no_rows_at_all_are_no_duplicates_in_the_first_night_or_a_later_one(tmp_path: Path) -> None:
    (tmp_path / "valid").mkdir()
    none = night({"0.parquet": []}, tmp_path / "valid", None, tmp_path / "0", DeduplicateSettings())
    assert none == Clean([], [], [])
    found = night(
        {"1.parquet": [row("a", "b", 1)]}, tmp_path / "valid", none.folder, tmp_path / "1", DeduplicateSettings()
    )
    assert [one.line for one in found.kept] == [1]


def test_a_night_reads_none_of_the_tables_that_it_knows(tmp_path: Path) -> None:
    (tmp_path / "valid").mkdir()
    some = planted(Random(3), 200)
    first = night({"0.parquet": some}, tmp_path / "valid", None, tmp_path / "0", DeduplicateSettings())
    (tmp_path / "valid" / "0.parquet").unlink()
    new = [row("Where is something that nobody asked for?", "Here", 900)]
    found = night({"1.parquet": new}, tmp_path / "valid", first.folder, tmp_path / "1", DeduplicateSettings())
    assert found.kept == [*first.kept, *new]


def test_of_an_old_row_that_is_contradicted_tonight_only_its_row_group_is_read(tmp_path: Path) -> None:
    (tmp_path / "valid").mkdir()
    settings = DeduplicateSettings(contradictions="newest")
    first = night({"0.parquet": [row("Is it open?", "Yes", 1)]}, tmp_path / "valid", None, tmp_path / "0", settings)
    late = row("is it OPEN", "No", 2, time="2026")
    found = night({"1.parquet": [late]}, tmp_path / "valid", first.folder, tmp_path / "1", settings)
    assert found.kept == [late]
    assert [(one.line, one.answer, one.outcome) for one in found.contradictions] == [
        (1, "Yes", "dropped"),
        (2, "No", "kept"),
    ]


def test_rows_of_a_segment_stand_from_old_to_new(tmp_path: Path) -> None:
    (tmp_path / "valid").mkdir()
    some = planted(Random(4), 300)
    found = night(
        {"0.parquet": some[:99], "1.parquet": some[99:]},
        tmp_path / "valid",
        None,
        tmp_path / "0",
        DeduplicateSettings(),
    )
    assert [one.place for one in found.kept] == sorted(one.place for one in found.kept)


def test_a_night_copies_the_lines_that_still_hold_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "valid").mkdir()
    some = planted(Random(5), 300)
    first = night({"0.parquet": some}, tmp_path / "valid", None, tmp_path / "0", DeduplicateSettings())
    new = {"1.parquet": [row("Quite another question, which nobody asked", "Yes", 999)]}
    night(new, tmp_path / "valid", first.folder, tmp_path / "1", DeduplicateSettings())
    for name in (dedup.DUPLICATES, dedup.CONTRADICTIONS):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "0" / name).read_bytes()
    one, other = (np.load(tmp_path / night / "listed" / "duplicates.npy") for night in "01")
    assert np.array_equal(one, other) and one.shape[1] > 50
