"""Kill, stop, damage and repeat trainings of a tiny model: each must end like one that nothing happened to."""

import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.splits.ledgers import write_ledger
from tests.training.conftest import MakeJob
from tests.training.processes import events_of, results, run_here, start, ticket
from tunemill import rows as row_files
from tunemill.rows import Message, make_row
from tunemill.training.job import Job

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

SETTINGS = {
    "method": {"kind": "qlora", "rank": 4, "dropout": 0.1},
    "epochs": 2,
    "batch_size": 4,
    "accumulation": 2,
    "learning_rate": 0.01,
    "warmup_steps": 1,
    "evaluate_every": 3,
    "save_every": 2,
}


@pytest.fixture(scope="module")
def whole(tiny: Path, make_job: MakeJob) -> Job:
    """Give a job of 8 steps that was done by a process without a hitch."""
    job = make_job(tiny, name="whole", **SETTINGS)
    process = start(job)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return job


def fresh(whole: Job, folder: Path) -> Job:
    """Give the same job in another folder, with the checkpoints that `whole` left."""
    shutil.copytree(whole.checkpoints, folder / "checkpoints")
    places = {name: folder / name for name in ("out", "checkpoints")} | {"events": folder / "events.jsonl"}
    return whole.model_copy(update=places)


def test_a_training_of_8_steps_tells_them_all_and_what_it_kept(whole: Job) -> None:
    assert [event["step"] for event in events_of(whole, "step")] == list(range(1, 9))
    assert [event["step"] for event in events_of(whole, "evaluation")] == [0, 3, 6, 8]
    done = events_of(whole, "done")[0]
    assert (done["steps_planned"], done["steps_done"]) == (8, 8)
    assert (whole.out / "report" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "«{" in (whole.out / "report" / "example.md").read_text()


def test_no_file_of_a_training_names_a_place_or_holds_a_model_card(whole: Job) -> None:
    place = str(whole.out.parent.parent).encode()
    files = [path for path in whole.out.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files if place in path.read_bytes()) == []
    assert {path.name for path in (whole.out / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_a_training_killed_at_step_5_goes_on_and_ends_the_same_to_the_byte(
    whole: Job, tiny: Path, make_job: MakeJob
) -> None:
    job = make_job(tiny, name="killed", **SETTINGS)
    assert start(job, TUNEMILL_FAULT="train.step-5:kill").wait() == -signal.SIGKILL
    assert start(job).wait() == 0
    assert events_of(job, "start")[1]["resumed_from"] == 4
    assert results(job) == results(whole)


def test_a_training_told_to_stop_saves_exits_with_75_and_goes_on_to_the_same_end(
    whole: Job, tiny: Path, make_job: MakeJob
) -> None:
    job = make_job(tiny, name="stopped", **SETTINGS)
    process = start(job)
    while process.poll() is None and not (job.events.exists() and events_of(job, "step")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    stopped_at = events_of(job, "step")[-1]["step"]
    assert stopped_at < 8
    assert start(job).wait() == 0
    assert events_of(job, "start")[1]["resumed_from"] in {stopped_at, stopped_at - 1}
    assert results(job) == results(whole)


def test_a_training_told_to_stop_while_it_loads_exits_with_75(tiny: Path, make_job: MakeJob) -> None:
    job = make_job(tiny, name="early", **SETTINGS)
    process = start(job)
    while not job.events.exists():
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 75
    assert events_of(job, "step") == []


def test_a_finished_training_that_is_tried_again_does_no_step(whole: Job, tmp_path: Path) -> None:
    job = fresh(whole, tmp_path)
    run_here(job)
    assert events_of(job, "step") == []
    assert results(job) == results(whole)


def test_a_torn_newest_checkpoint_is_named_and_its_steps_are_done_again(whole: Job, tmp_path: Path) -> None:
    job = fresh(whole, tmp_path)
    newest = job.checkpoints / "checkpoint-8" / "optimizer.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    run_here(job)
    assert events_of(job, "refused")[0]["step"] == 8
    assert [event["step"] for event in events_of(job, "step")] == [7, 8]
    assert results(job) == results(whole)


def test_the_checkpoints_of_another_training_are_left_alone(whole: Job, tmp_path: Path) -> None:
    job = fresh(whole, tmp_path).model_copy(update={"identity": "b" * 32})
    run_here(job)
    assert events_of(job, "start")[0]["resumed_from"] is None
    assert results(job) == results(whole)


def test_rows_that_train_nothing_end_the_process_with_3_before_any_step(tiny: Path, make_job: MakeJob) -> None:
    job = make_job(tiny, name="nothing", **SETTINGS)
    unanswered = make_row([Message("user", "Is anybody there?")], "c" * 64, 99)
    row_files.write(job.train, [ticket(1), unanswered])
    process = start(job)
    _, errors = process.communicate()
    assert process.returncode == 3
    assert "1 of 2 training rows have no assistant token" in errors.decode()
    error = events_of(job, "error")[0]
    assert error["kind"] == "DataError" and "cccccccccccc:99" in error["message"]
    assert events_of(job, "start", "step") == []


def test_a_bounded_training_reads_the_newest_rows_and_says_of_how_many(tiny: Path, make_job: MakeJob) -> None:
    job = make_job(tiny, name="bounded", **{**SETTINGS, "max_rows": 16, "max_steps": 2})
    rows = row_files.read(job.train)
    write_ledger(job.train.parent, rows, [str(row.line // 4) for row in rows])
    run_here(job.model_copy(update={"dealt": job.train.parent}))
    (told,) = events_of(job, "rows")
    assert (told["rows"], told["held"]) == (16, 32)
    assert events_of(job, "preflight")[0]["train"]["rows"] == 16


def test_training_stops_early_and_a_new_try_does_not_go_on(tiny: Path, make_job: MakeJob, tmp_path: Path) -> None:
    early = {**SETTINGS, "early_stopping": {"patience": 2, "min_delta": 10}}
    job = make_job(tiny, name="early-stop", **early)
    run_here(job)
    assert [event["step"] for event in events_of(job, "step")] == [1, 2, 3, 4, 5, 6]
    again = fresh(job, tmp_path)
    run_here(again)
    assert events_of(again, "step") == []
    assert results(again) == results(job)
