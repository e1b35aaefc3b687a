"""The report for a person, and its two pictures."""

import pytest

from tunemill.quality.examples import spread
from tunemill.quality.histogram import Limit, draw
from tunemill.quality.report import write_report
from tunemill.rows import write

NAMES = {"ab" * 32: "tickets.csv"}


@pytest.fixture(scope="module")
def shown(validated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    write(folder / "one.parquet", validated.kept)
    return spread(folder)


@pytest.fixture(scope="module")
def folder(validated, shown, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(validated.summary, shown, folder, NAMES)
    return folder


@pytest.fixture(scope="module")
def report(folder):
    return (folder / "report.md").read_text()


def test_the_headline_counts_every_row(report):
    assert report.startswith("# 20 of 30 rows kept, 10 rejected (33.3%)\n")


def test_every_expectation_has_a_line_with_its_outcome(validated, report):
    lines = [line for line in report.splitlines() if "| `expect_" in line]
    assert len(lines) == len(validated.summary.expectations) == 12
    assert (
        "| `answer` shorter than 50 characters | `expect_column_values_to_be_between` | 30 | 3 rows rejected |" in lines
    )


def test_every_reason_has_an_example_with_its_place(report):
    assert "| 1 | `answer` holds a phone number | tickets.csv:29 |" in report


def test_the_oldest_the_middle_and_the_newest_kept_row_are_shown(report):
    assert [line.rsplit(" ", 1)[1] for line in report.splitlines() if line.startswith("### ")] == [
        "tickets.csv:1",
        "tickets.csv:11",
        "tickets.csv:20",
    ]


def test_without_names_a_place_is_the_digest_and_the_line(validated, shown, tmp_path):
    write_report(validated.summary, shown, tmp_path)
    assert "abababababab:29" in (tmp_path / "report.md").read_text()


def test_the_same_result_gives_the_same_bytes(validated, shown, folder, tmp_path):
    write_report(validated.summary, shown, tmp_path, NAMES)
    for name in ("report.md", "tokens.png", "answer_characters.png"):
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize(("kept", "rejected"), [([], []), ([7], []), ([], [0]), ([60, 61] * 9, [3]), ([1, 10**6], [0])])
def test_a_histogram_of_few_or_wide_lengths_is_a_picture(kept, rejected, tmp_path):
    draw(tmp_path / "x.png", "tokens", kept, rejected, [Limit("minimum", 5, False), Limit("limit", 2048, True)])
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
