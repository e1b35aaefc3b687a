"""The data page from facts, with what is awkward to show."""

import struct
import warnings

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunemill.quality.balance import Tally
from tunemill.quality.funnel import Loss, Place, funnel
from tunemill.quality.page import (
    AnswerShown,
    Contradictions,
    Copies,
    Facts,
    Page,
    Pair,
    answers,
    at_distances,
    contradictions,
    copies,
    pairs,
)
from tunemill.quality.page import warnings as warned
from tunemill.quality.page_report import side_by_side, write_page
from tunemill.quality.page_rows import Contradicted, read_side, rows_at
from tunemill.quality.page_settings import BalanceSettings, PageSettings, Task
from tunemill.quality.rendered import Rendered
from tunemill.rows import Duplicate, Message, make_row, write

SOURCE, OTHER = "ab" * 32, "cd" * 32
HERE = Place(SOURCE, 3)
EVIL = "costs $5 and $6 | <script>alert(1)</script> ![x](http://a.example/x.png) 好 " * 3


def row(line, asked="Where is it?", answer="Here.", source=SOURCE):
    return make_row([Message("user", asked), Message("assistant", answer)], source, line)


def facts(reasons=2, labels=("yes",) * 6 + ("no",) * 4, files=1, **changes):
    lost = [Loss("ingest", f"reason {n}", 1, HERE, EVIL) for n in range(reasons)]
    tally = Tally(None)
    for label in labels:
        tally.add("train", label)
    counts = {"read": 5, "not read": 2, "invalid": 0, "train": 1, "validation": 1, "test": 1}
    sides = {"train": len(labels), "validation": 0, "test": 0}
    stages = {"ingest": lost, "validate": [], "deduplicate": [], "split": []}
    known = {
        "funnel": funnel(len(labels) + reasons, stages, sides),
        "files": {f"{n:064x}": counts for n in range(files)},
        "copies": Copies(1, 2, [(HERE, 3)]),
        "contradictions": Contradictions(1, 1, {"kept": 2, "dropped": 0, "duplicate": 1}),
        "balance": tally.labels(),
        "largest_group": 1,
        "sampled": len(labels),
        "tokens": [20] * len(labels),
        "trained": [5] * len(labels),
    }
    return Facts(**{**known, **changes})


def page(found, **changes):
    known = {
        "settings": PageSettings(),
        "task": Task(type="style"),
        "certificate": {"cross_split_near_duplicates": 0, "threshold": 0.5, "highest_similarity": None},
        "contradictions": [
            AnswerShown(Contradicted("p", SOURCE, line, None, EVIL, text, "kept"), {"kept": 1})
            for line, text in ((3, "Yes."), (4, EVIL))
        ],
        "pairs": [Pair(row(3), row(4, EVIL), 0.71)],
        "examples": [Rendered(row(3), f"<|im_start|>user\n{EVIL}\n⟦Here.<|im_end|>⟧\n", 9, 3)],
        "names": {SOURCE: "logs/a|b_c.jsonl"},
        "links": {"duplicates.jsonl": "../../../deduplicate/k/duplicates.jsonl", "tokens.png": "tokens.png"},
    }
    return Page(facts=found, **{**known, **changes})


@pytest.fixture
def written(tmp_path):
    def write_it(found, **changes):
        write_page(page(found, **changes), tmp_path)
        return (tmp_path / "page.md").read_text()

    return write_it


def test_the_headline_and_the_line_below_count_every_record(written):
    text = written(facts())
    assert text.startswith("# Data: 10 train, 0 validation, 0 test\n\n12 records read, 10 rows dealt, 2 left out, each")


def test_the_page_has_its_nine_sections_in_order(written):
    heads = [line.removeprefix("## ") for line in written(facts()).splitlines() if line.startswith("## ")]
    assert heads == [
        "From raw to train",
        "Source files",
        "Lengths",
        "Duplicates",
        "Contradictions",
        "Leak certificate",
        "Balance",
        "Size",
        "As the model will see it",
    ]


def test_of_200_reasons_25_have_a_line_and_the_rest_is_one(written):
    lines = written(facts(reasons=200)).splitlines()
    assert sum(line.startswith("| 1 | ingest | reason ") for line in lines) == 25
    assert "And 175 more reasons, 175 rows together." in lines


def test_of_20_files_15_have_a_line_and_the_rest_is_one(written):
    lines = written(facts(files=20)).splitlines()
    assert sum(line.startswith("| 0000") for line in lines) == 15
    assert "And 5 more files, 25 records together." in lines


def test_a_column_of_zeros_is_left_out_but_for_the_sides(written):
    assert "| file | read | not read | train | validation | test |" in written(facts())


def test_what_users_wrote_is_neither_html_nor_an_image_nor_a_cell_too_many(written):
    text = written(facts())
    outside = "".join(text.split("```")[::2])
    assert "<script>" not in outside
    assert "![x]" not in outside
    assert "| logs/a\\|b\\_c.jsonl:4 |  |" in outside
    tables = [line.replace("\\|", "") for line in outside.splitlines() if line.startswith("| ")]
    assert {line.count("|") for line in tables if "Yes." in line or "costs" in line} == {4, 6}


def test_nothing_left_out_and_no_labels_are_said_in_words(written, tmp_path):
    none = Copies(0, 0, [])
    quiet = Contradictions(0, 0, {"kept": 0, "dropped": 0, "duplicate": 0})
    free = [f"{n} " * 50 for n in range(10)]
    text = written(facts(0, free, copies=none, contradictions=quiet), pairs=[], contradictions=[])
    for said in ("No record was left out.", "None were found.", "No prompt has more than one answer.", "no labels"):
        assert said in text
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["funnel.png", "trained_tokens.png"]


def test_a_dataset_without_a_training_row_still_has_a_page(written):
    text = written(facts(1, (), sampled=0), examples=[])
    assert text.startswith("# Data: 0 train, 0 validation, 0 test")
    assert "No row trains." in text


def test_every_picture_of_the_page_lies_beside_it_and_no_other(written, tmp_path):
    text = written(facts(), links={})
    shown = {line.rpartition("(")[2].removesuffix(")") for line in text.splitlines() if line.startswith("![")}
    assert shown == {path.name for path in tmp_path.glob("*.png")}


def test_the_same_page_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_page(page(facts()), tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


@pytest.mark.parametrize(
    "labels", [("one",) * 9, ("好",) * 9, ("$a$ $", "b") * 9, tuple(f"{n % 90}" for n in range(900))]
)
def test_pictures_are_1200_pixels_wide_whatever_the_labels_and_reasons(written, tmp_path, labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written(facts(reasons=30, labels=labels))
    for path in tmp_path.glob("*.png"):
        assert struct.unpack(">I", path.read_bytes()[16:20]) == (1200,)


def test_only_the_words_that_differ_are_bold_and_both_texts_begin_shortly_before():
    before = " ".join(f"w{n}" for n in range(20))
    left, right = side_by_side(f"{before} old end", f"{before} quite new end")
    assert left == "… w14 w15 w16 w17 w18 w19 **old** end"
    assert right == "… w14 w15 w16 w17 w18 w19 **quite new** end"


def copied(line, similarity, kept=1, kind="near"):
    return Duplicate(f"id{line}", SOURCE, line, f"id{kept}", SOURCE, kept, similarity, kind)


def test_copies_are_counted_by_kind_and_the_five_largest_clusters_are_named():
    found = copies([copied(n, 0.8, kept=n % 7) for n in range(20)] + [copied(99, 1.0, kept=6, kind="exact")])
    assert (found.exact, found.near) == (1, 20)
    assert found.largest == [(Place(SOURCE, n), 4) for n in (0, 1, 2, 3, 4)]


def test_near_duplicates_are_shown_from_the_least_to_the_most_similar():
    listed = [copied(n, s) for n, s in enumerate((0.9, 0.5, 0.95, 0.8, 0.7), 10)] + [copied(3, 1.0, kind="exact")]
    shown = pairs(listed, 3, lambda places: {place: row(place[1].line) for place in places})
    assert [(pair.similarity, pair.dropped.line, pair.stays.line) for pair in shown] == [
        (0.5, 11, 1),
        (0.8, 13, 1),
        (0.95, 12, 1),
    ]


def answered(prompt, answer, outcome, line=1):
    return Contradicted(prompt, SOURCE, line, None, "asked", answer, outcome)


def test_prompts_with_an_answer_that_was_dropped_are_decided():
    listed = [answered("p", "a", "kept"), answered("p", "b", "dropped"), answered("q", "a", "kept")]
    found = contradictions([*listed, answered("q", "b", "duplicate")])
    assert found == Contradictions(2, 1, {"kept": 2, "dropped": 1, "duplicate": 1})


def test_rows_with_the_same_answer_are_one_line_and_six_answers_a_prompt_are_shown():
    listed = [answered(f"p{n // 20}", f"a{n % 10}", "kept" if n % 20 < 10 else "duplicate", n) for n in range(60)]
    shown = answers(listed, 2)
    assert len(shown) == 12
    assert (shown[0].first.line, shown[0].rows) == (0, {"kept": 1, "duplicate": 1})


def test_places_are_chosen_at_equal_distances_with_both_ends():
    assert at_distances(range(11), 3) == [0, 5, 10]
    assert at_distances(range(2), 5) == [0, 1]
    assert at_distances(range(9), 1) == [0]
    assert at_distances([], 3) == []


def test_warnings_name_clusters_groups_and_prompts_that_no_rule_decides():
    found = facts(copies=Copies(0, 4, [(HERE, 5)]), largest_group=2)
    assert [text.partition(";")[0] for text in warned(found, BalanceSettings())] == [
        "balance: one row and its copies make up 5 of 10 rows (50.0%)",
        "balance: one group (of similar prompts, or one conversation or user) holds 2 of 10 rows (20.0%)",
        "deduplicate: 1 prompt has more than one answer, and no rule says which stays (deduplicate.contradictions: "
        "keep)",
    ]


def test_a_side_of_5000_rows_gives_2000_for_the_sample_and_counts_all(tmp_path):
    rows = [row(n, answer="yes" if n % 2 else "no", source=SOURCE if n < 3_000 else OTHER) for n in range(5_000)]
    write(tmp_path / "train.parquet", rows)
    tally = Tally(None)
    side = read_side(tmp_path / "train.parquet", "train", tally)
    assert (side.rows, len(side.sample), side.sample[0], side.sample[-1]) == (5_000, 2_000, rows[0], rows[-1])
    assert side.sources == {SOURCE: 3_000, OTHER: 2_000}
    assert [label.sides for label in tally.labels()[0].labels] == [{"train": 2_500}, {"train": 2_500}]


def test_a_call_that_ends_a_conversation_counts_as_its_answer(tmp_path):
    call = Message("assistant", "", '[{"id":"call00001","name":"find","arguments":{"n":1}}]')
    rows = [make_row([Message("user", f"{n}"), call], SOURCE, n) for n in range(6)] + [row(n) for n in range(6, 12)]
    write(tmp_path / "train.parquet", rows)
    tally = Tally(None)
    assert read_side(tmp_path / "train.parquet", "train", tally).sample == rows
    found = {label.value: label.rows for label in tally.labels()[0].labels}
    assert found == {"Here.": 6, '{"name":"find","arguments":{"n":1}}': 6}


def test_answers_are_counted_in_a_file_written_before_rows_had_calls(tmp_path):
    pq.write_table(pa.Table.from_pylist([msgspec.to_builtins(row(n)) for n in range(6)]), tmp_path / "train.parquet")
    tally = Tally(None)
    assert read_side(tmp_path / "train.parquet", "train", tally).sample == [row(n) for n in range(6)]
    assert {label.value: label.rows for label in tally.labels()[0].labels} == {"Here.": 6}


def test_rows_are_found_by_id_and_place_though_another_row_has_the_same_id(tmp_path):
    rows = [row(n, "the same" if n in (5, 9_000) else f"ask {n}") for n in range(9_500)]
    write(tmp_path / "rows.parquet", rows)
    wanted = [(rows[9_000].row_id, Place(SOURCE, 9_000)), (rows[7].row_id, Place(SOURCE, 7))]
    assert rows_at(tmp_path / "rows.parquet", [*wanted, ("none", HERE)]) == {
        place: rows[place[1].line] for place in wanted
    }


def test_page_json_holds_no_text_of_a_row_and_no_file_name():
    text = msgspec.json.encode(facts(labels=("yes",) * 9, reasons=0)).decode()
    assert "logs/" not in text
    assert "Where is it?" not in text
