"""What a person may choose in Prefect's run form."""

import pytest
from pydantic import ValidationError

from tasks.form import PLACES, Change, configurations
from tunemill.artifacts import digest_of
from tunemill.config import PipelineConfig, load
from tunemill.home import PROJECT
from tunemill.section import Section
from tunemill.training.methods import QLora
from tunemill.training.settings import TrainSettings


def test_every_configuration_of_the_project_is_offered() -> None:
    assert "pipeline_configs/quickstart.yaml" in configurations()


def test_every_field_changes_the_setting_of_its_place() -> None:
    change = Change(epochs=2, max_steps=9, learning_rate=0.001, rank=4, max_rows=5, seed=6)
    config = load(PROJECT / "pipeline_configs/quickstart.yaml", change.overrides())
    train = config.train
    assert (train.epochs, train.max_steps, train.learning_rate, train.method.rank) == (2, 9, 0.001, 4)
    assert (train.max_rows, train.seed) == (5, 6)


@pytest.mark.parametrize("name", configurations())
def test_a_configuration_that_travels_as_json_to_another_pool_asks_for_the_same_keys(name: str) -> None:
    config = load(PROJECT / name)
    there = PipelineConfig.model_validate_json(config.model_dump_json(by_alias=True))
    assert decided(there) == decided(config)


def decided(config: PipelineConfig) -> dict[str, str]:
    sections = ((name, getattr(config, name)) for name in type(config).model_fields)
    return {name: digest_of(each.decisions()) for name, each in sections if isinstance(each, Section)}


def test_what_is_left_empty_changes_nothing() -> None:
    assert Change().overrides() == []


@pytest.mark.parametrize("name", PLACES)
def test_the_form_has_the_bounds_of_the_setting(name: str) -> None:
    section = QLora if name == "rank" else TrainSettings
    asked = section.model_json_schema()["properties"][name]
    asked = next((kind for kind in asked.get("anyOf", ()) if kind["type"] != "null"), asked)
    shown = Change.model_json_schema()["properties"][name]
    bounds = ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    assert {key: shown.get(key) for key in bounds} == {key: asked.get(key) for key in bounds}


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValidationError, match="rnk"):
        Change.model_validate({"rnk": 4})
