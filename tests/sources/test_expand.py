"""Which files a path, a folder or a glob stands for."""

import pytest

from tunemill.errors import DataError
from tunemill.sources import expand


@pytest.fixture
def root(tmp_path):
    """A folder of logs with temporary and foreign files among them."""
    names = (
        "b.jsonl a.jsonl c.csv.gz part.jsonl.tmp part.jsonl.part .hidden.jsonl notes.md deep/d.json deep/.git/e.json"
    )
    for name in names.split():
        (tmp_path / "logs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "logs" / name).write_text("{}")
    return tmp_path.resolve()


def names(files, root):
    return [str(file.relative_to(root)) for file in expand(files, root)]


def test_one_path_is_one_file(root):
    assert names("logs/a.jsonl", root) == ["logs/a.jsonl"]


def test_an_absolute_path_and_an_absolute_glob_are_taken_as_they_are(root, tmp_path):
    assert names([str(root / "logs/a.jsonl"), str(root / "logs/*.csv.gz")], root) == ["logs/a.jsonl", "logs/c.csv.gz"]


def test_a_glob_is_sorted_and_passes_over_temporary_and_hidden_files(root):
    assert names("logs/*jsonl*", root) == ["logs/a.jsonl", "logs/b.jsonl"]


def test_a_folder_gives_the_4_files_of_known_endings_at_any_depth(root):
    assert names("logs", root) == ["logs/a.jsonl", "logs/b.jsonl", "logs/c.csv.gz", "logs/deep/d.json"]


def test_a_folder_gives_rotated_and_zstandard_files_too(root):
    for name in (
        "app.jsonl.1",
        "app.jsonl.2.gz",
        "app.csv-20260131",
        "app.jsonl.2026-01-31.zst",
        "v1.2",
        "a.jsonl.bak",
    ):
        (root / "rotated" / name).parent.mkdir(exist_ok=True)
        (root / "rotated" / name).touch()
    assert names("rotated", root) == [
        "rotated/app.csv-20260131",
        "rotated/app.jsonl.1",
        "rotated/app.jsonl.2.gz",
        "rotated/app.jsonl.2026-01-31.zst",
    ]


def test_two_stars_go_through_folders(root):
    assert names("**/*.json", root) == ["logs/deep/d.json"]


def test_a_file_that_3_patterns_name_is_read_once(root):
    assert names(["logs/a.jsonl", "logs/a*", "./logs/../logs/a.jsonl"], root) == ["logs/a.jsonl"]


def test_a_link_to_a_file_is_the_file_itself(root):
    (root / "logs/latest.jsonl").symlink_to("a.jsonl")
    assert names(["logs/latest.jsonl", "logs/a.jsonl"], root) == ["logs/a.jsonl"]


def test_a_link_that_leads_in_a_circle_ends(root):
    (root / "logs/deep/up").symlink_to(root / "logs")
    assert names("logs/deep", root) == ["logs/deep/d.json"]


def test_a_name_with_brackets_is_a_file_before_it_is_a_glob(root):
    (root / "logs/day[1].csv").write_text("")
    assert names("logs/day[1].csv", root) == ["logs/day[1].csv"]


@pytest.mark.parametrize("pattern", ["logs/*.parquet", "nowhere", "logs/part.jsonl.tmp", "logs/.hidden.jsonl"])
def test_a_pattern_that_stands_for_no_file_is_named_with_the_folder(root, pattern):
    with pytest.raises(DataError) as stopped:
        expand(["logs/a.jsonl", pattern], root)
    assert f"`{pattern}`" in str(stopped.value)
    assert str(root) in str(stopped.value)
