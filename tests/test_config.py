from pathlib import Path

import pytest

from tunemill.config import json_schema, load
from tunemill.errors import ConfigError
from tunemill.home import PROJECT

CONFIGS = sorted(PROJECT.glob("pipeline_configs/**/*.yaml"))
GOOD = "name: a\nmodel: {packaged: smollm2-135m-instruct}\ningest: {files: [x.csv]}\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "bad.yaml"
    path.write_text(text)
    return path


def test_there_is_a_configuration_to_start_from() -> None:
    assert PROJECT / "pipeline_configs" / "quickstart.yaml" in CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_loads(path: Path) -> None:
    assert load(path).name


def test_all_faults_are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    text = GOOD + "split: {train: 0.9}\ntrain:\n  method:\n    kind: qlora\n    rnk: 8\n"
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, text))
    first, second = str(caught.value).splitlines()
    assert first.endswith("bad.yaml:4  split: shares add up to 1.1, not 1")
    assert second.endswith("bad.yaml:8  train.method.rnk: no such setting; did you mean `rank`?")


def test_an_override_is_read_as_yaml(tmp_path: Path) -> None:
    config = load(write(tmp_path, GOOD), ["train.method.rank=32", "train.learning_rate=2e-4"])
    assert config.train.method.rank == 32
    assert config.train.learning_rate == 2e-4


def test_a_setting_given_twice_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bad\.yaml:4  name: set twice \(first in line 1\)"):
        load(write(tmp_path, GOOD + "name: b\n"))


def test_broken_yaml_names_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bad\.yaml:2  not YAML"):
        load(write(tmp_path, "name: a\nmodel: {packaged: [}\n"))


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"did you mean `.*quickstart\.yaml`"):
        load(tmp_path / "quikstart.yaml")


def test_the_committed_schema_is_current() -> None:
    from tunemill.cli import schema_text

    committed = (PROJECT / "pipeline_configs" / "schema.json").read_text()
    assert committed == schema_text(json_schema()), "run: tunemill schema"
