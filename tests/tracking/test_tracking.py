"""What a real MLflow on SQLite holds after it was told."""

import time
from pathlib import Path
from typing import Any

import pytest

from tunemill.home import Home
from tunemill.tracking import Tracking, close

pytestmark = pytest.mark.flow

DIGEST = "5a8e3a5ac5172781e1c2ad4ff583543bcf784f761e36f42d93f1670040aecbfb"


def opened(home: Home, run: str = "night-1", experiment: str = "desk", **config: Any) -> Tracking:
    return Tracking(home, experiment, run, config or {"name": experiment}, "pipeline_configs/desk.yaml")


def steps(client: Any, tracking: Tracking, name: str) -> list[int]:
    return [point.step for point in client.get_metric_history(tracking.run_id, name)]


def test_an_experiment_is_made_once(home: Home, client: Any) -> None:
    first, second = opened(home, "night-1"), opened(home, "night-2")
    assert first.experiment == second.experiment
    assert sorted(e.name for e in client.search_experiments()) == ["Default", "desk"]


class Beaten:
    """MLflow's client in a process that is beaten by another between looking for an experiment and making it."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def create_experiment(self, *args: Any) -> Any:
        self.client.create_experiment(*args)
        return self.client.create_experiment(*args)


def test_a_run_whose_experiment_another_made_first_takes_that_one(
    home: Home, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunemill.tracking.connect", lambda home: Beaten(client))
    assert opened(home).experiment == client.get_experiment_by_name("desk").experiment_id


def test_a_retry_finds_its_run_by_the_tag_and_opens_no_second(home: Home, client: Any) -> None:
    assert opened(home).run_id == opened(home).run_id
    [run] = client.search_runs([opened(home).experiment])
    assert run.info.run_name == run.data.tags["tunemill.run"] == "night-1"
    assert run.data.tags["mlflow.source.name"] == "pipeline_configs/desk.yaml"


def test_150_parameters_are_logged_as_the_run_opens(home: Home, client: Any) -> None:
    tracking = opened(home, settings={f"setting_{number}": number for number in range(150)})
    logged = client.get_run(tracking.run_id).data.params
    assert len(logged) == 150
    assert logged["settings.setting_149"] == "149"


def test_a_point_is_not_told_twice(home: Home, client: Any) -> None:
    tracking = opened(home)
    tracking.metrics([("train/loss", 2.0, 1), ("train/loss", 1.0, 2)])
    tracking.metrics([("train/loss", 1.0, 2), ("train/loss", 0.5, 3)])
    assert steps(client, tracking, "train/loss") == [1, 2, 3]


def test_a_point_is_not_told_twice_by_another_process_of_the_run(home: Home, client: Any) -> None:
    opened(home).metrics([("train/loss", 2.0, 1), ("validation/loss", 2.0, 1)])
    again = opened(home)
    again.metrics([("train/loss", 2.0, 1), ("train/loss", 1.0, 2)])
    again.metrics([("validation/loss", 2.0, 1)])
    assert steps(client, again, "train/loss") == [1, 2]
    assert steps(client, again, "validation/loss") == [1]


class LosesAnswer:
    """MLflow's client on a line that breaks after the server took the first batch of metrics."""

    def __init__(self, client: Any) -> None:
        self.client, self.broken = client, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def log_batch(self, *args: Any, **kwargs: Any) -> None:
        self.client.log_batch(*args, **kwargs)
        if not self.broken:
            self.broken = True
            raise ConnectionError("the line broke")


def test_a_point_that_mlflow_took_before_the_line_broke_is_not_told_twice(home: Home, client: Any) -> None:
    tracking = opened(home)
    tracking.client = LosesAnswer(tracking.client)
    with pytest.raises(ConnectionError):
        tracking.metrics([("train/loss", 2.0, 1), ("train/loss", 1.0, 2)])
    tracking.metrics([("train/loss", 2.0, 1), ("train/loss", 1.0, 2), ("train/loss", 0.5, 3)])
    assert steps(client, tracking, "train/loss") == [1, 2, 3]


def test_of_two_values_for_one_step_the_later_counts(home: Home, client: Any) -> None:
    tracking = opened(home)
    tracking.metrics([("train/loss", 9.0, 3), ("train/loss", 0.5, 3)])
    assert [point.value for point in client.get_metric_history(tracking.run_id, "train/loss")] == [0.5]


def test_2500_points_are_told_in_one_call(home: Home, client: Any) -> None:
    tracking = opened(home)
    tracking.metrics([("train/loss", 1.0, step) for step in range(2500)])
    assert sorted(steps(client, tracking, "train/loss")) == list(range(2500))


def test_a_dataset_has_36_digits_of_its_digest_its_path_and_its_rows(home: Home, client: Any, tmp_path: Path) -> None:
    tracking = opened(home)
    tracking.dataset("train", DIGEST, tmp_path / "train.parquet", "train", 258)
    [logged] = client.get_run(tracking.run_id).inputs.dataset_inputs
    assert (logged.dataset.name, logged.dataset.digest) == ("train", DIGEST[:36])
    assert logged.dataset.source == f'{{"uri":"{tmp_path}/train.parquet"}}'
    assert logged.dataset.profile == '{"num_rows":258}'
    assert [(tag.key, tag.value) for tag in logged.tags] == [("mlflow.data.context", "train")]


def adapter(folder: Path) -> Path:
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    return folder / "adapter"


def test_a_model_is_ready_with_its_scores_and_an_output_of_the_run(home: Home, client: Any, tmp_path: Path) -> None:
    tracking = opened(home)
    tracking.dataset("test", DIGEST, tmp_path / "test.parquet", "test", 32)
    made = tracking.model("adapter-3dc3", adapter(tmp_path), {"method": {"rank": 16}}, "made of letters")
    tracking.scores(made, {"test/tuned/token_f1": 0.9}, "test", DIGEST)
    model = client.get_logged_model(made)
    assert (model.status, model.name, model.source_run_id) == ("READY", "adapter-3dc3", tracking.run_id)
    assert model.params == {"method.rank": "16"}
    [score] = model.metrics
    assert (score.key, score.value, score.dataset_name, score.dataset_digest) == (
        "test/tuned/token_f1",
        0.9,
        "test",
        DIGEST[:36],
    )
    assert [file.path for file in client.list_logged_model_artifacts(made)] == ["adapter_config.json"]
    run = client.get_run(tracking.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [made]
    assert run.data.metrics == {"test/tuned/token_f1": 0.9}


def test_a_model_that_a_second_run_scores_is_its_input_and_not_sent_again(
    home: Home, client: Any, tmp_path: Path
) -> None:
    first, second, folder = opened(home, "night-1"), opened(home, "night-2"), adapter(tmp_path)
    made = first.model("adapter-3dc3", folder, {}, "")
    assert second.model("adapter-3dc3", folder, {}, "") == made
    assert len(client.search_logged_models([first.experiment])) == 1
    run = client.get_run(second.run_id)
    assert [given.model_id for given in run.inputs.model_inputs] == [made]
    assert run.outputs.model_outputs == []


def test_system_metrics_of_a_retried_training_go_on_where_they_stopped(
    home: Home, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "1")
    tracking = opened(home)
    for _ in range(2):
        with tracking.system_metrics():
            time.sleep(2.5)
    found = steps(client, tracking, "system/cpu_utilization_percentage")
    assert len(found) >= 2
    assert len(found) == len(set(found))


def test_a_run_is_closed_at_the_time_it_was_last_heard_of(home: Home, client: Any) -> None:
    tracking = opened(home)
    tracking.metrics([("train/loss", 2.0, 1)])
    [heard] = [point.timestamp for point in client.get_metric_history(tracking.run_id, "train/loss")]
    time.sleep(0.01)
    close(home, "desk", "night-1", "KILLED", "the process was killed")
    run = client.get_run(tracking.run_id)
    assert (run.info.status, run.info.end_time) == ("KILLED", heard)
    assert run.data.tags["mlflow.note.content"] == "the process was killed"


def test_what_is_finished_or_unknown_is_not_closed(home: Home, client: Any) -> None:
    tracking = opened(home)
    tracking.finish("FINISHED")
    close(home, "desk", "night-1", "KILLED", "")
    close(home, "no such experiment", "night-1", "KILLED", "")
    assert client.get_run(tracking.run_id).info.status == "FINISHED"
