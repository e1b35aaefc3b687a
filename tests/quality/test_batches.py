"""What is found in a file does not depend on what it was checked together with, nor in how many pieces."""

import numpy as np
import pytest

from tests.quality.conftest import SETTINGS, WRONG, row, words
from tunemill.quality.batches import Batch, batches
from tunemill.quality.checkpoint import build, open_context
from tunemill.quality.examples import spread
from tunemill.quality.expectations import check, of_rows
from tunemill.quality.found import read_facts, read_lengths
from tunemill.quality.found import write as write_found
from tunemill.quality.settings import ExpectationSettings
from tunemill.rows import make_row, write

GOOD = [row(line) for line in range(1, 8)]
FILES = [("a", WRONG), ("b", GOOD), ("c", [*WRONG[:2], *GOOD[:1]])]


def found(most, docs=None):
    context = open_context(docs)
    results = dict(check(FILES, of_rows(SETTINGS), words, context, most))
    if docs:
        context.build_data_docs()
    return results


def test_files_in_pieces_of_4_rows_give_what_whole_files_give(tmp_path):
    whole, pieces = found(Batch(1000, 10**9), tmp_path / "one"), found(Batch(4, 10**9), tmp_path / "five")
    assert [len(list((tmp_path / name).glob("validations/rows/**/*.html"))) for name in ("one", "five")] == [1, 5]
    for name, one in whole.items():
        other = pieces[name]
        assert (one.kept, one.rejected, one.facts) == (other.kept, other.rejected, other.facts)
        assert np.array_equal(one.lengths.table, other.lengths.table)
    assert (whole["a"].facts.rejected, whole["b"].facts.rejected, whole["c"].facts.rejected) == (10, 0, 2)


def test_a_batch_ends_with_the_row_that_fills_it():
    long = [row(line, answer="x" * 60) for line in range(1, 4)]
    taken = [
        [(p.file, len(p.rows), p.ends) for p in batch]
        for batch in batches([("a", long), ("b", GOOD[:1])], Batch(9, 150))
    ]
    assert taken == [[("a", 2, False)], [("a", 1, True), ("b", 1, True)]]


def test_a_file_without_rows_is_found_empty():
    assert [[(p.file, len(p.rows), p.ends) for p in batch] for batch in batches([("a", [])], Batch(9, 9))] == [
        [("a", 0, True)]
    ]


def test_what_was_found_is_read_back(tmp_path):
    one = found(Batch(1000, 10**9))["a"]
    write_found(one, tmp_path, "a")
    assert read_facts(tmp_path) == one.facts
    assert read_lengths(tmp_path).rejected_tokens.tolist() == one.lengths.rejected_tokens.tolist()
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_row_with_a_wrong_order_of_roles_has_no_tokens(name):
    lengths = found(Batch(1000, 10**9))[name].lengths
    without = lengths.table.shape[1] - len(lengths.kept_tokens) - len(lengths.rejected_tokens)
    assert without == {"a": 1, "b": 0}[name]


def test_every_rule_that_judges_a_row_alone_has_a_name_that_exists():
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    from tunemill.quality.checkpoint import ALONE

    build(ExpectationSettings(type="expect_column_values_to_not_be_null", column="answer"))
    assert set(list_registered_expectation_implementations()) >= ALONE


def test_the_oldest_the_middle_and_the_newest_row_are_found_across_files(tmp_path):
    turns = GOOD[0].messages
    days = {"a": (1, 4, 5), "b": (2, 3), "c": (0,)}
    for name, given in days.items():
        told = [make_row(turns, name * 64, day, time=f"2026-01-0{day}" if day else None) for day in given]
        write(tmp_path / f"{name * 64}.parquet", told)
    assert [(one.source[0], one.line) for one in spread(tmp_path)] == [("c", 0), ("b", 2), ("a", 5)]
