"""What MLflow is told is cut to what it takes, and what people are told of it is short and holds no secret."""

from pathlib import Path

import pytest

from tunemill.home import Home
from tunemill.tracking import address, connect, flattened, reason


def test_nested_settings_are_joined_with_dots_and_none_is_left_out() -> None:
    settings = {"train": {"method": {"rank": 16}, "max_steps": None}, "name": "desk"}
    assert flattened(settings) == {"train.method.rank": "16", "name": "desk"}


def test_a_value_is_cut_to_the_6000_characters_that_mlflow_takes() -> None:
    assert len(flattened({"system": "x" * 7000})["system"]) == 6000


def test_the_shown_address_holds_neither_name_nor_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://tunemill:secret@database:5432/mlflow")
    assert address(Home(tmp_path)) == "postgresql://database:5432/mlflow"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert address(Home(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.flow
def test_a_refused_connection_is_told_in_two_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed_port: int
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Exception) as caught:
        connect(Home(tmp_path)).get_experiment_by_name("desk")
    assert reason(caught.value) == "Connection refused"


def test_a_reason_without_a_cause_below_it_names_its_kind_and_first_line() -> None:
    assert reason(ValueError("the run 7 is deleted\nmore")) == "ValueError: the run 7 is deleted"
