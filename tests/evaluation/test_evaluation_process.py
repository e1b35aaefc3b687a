"""Start the evaluation as the flow starts it, up to the point where a model would be loaded."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from tunemill import rows
from tunemill.evaluation.job import Job
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.rows import Message, Row, make_row
from tunemill.training.methods import QLora


def _row(question: str) -> Row:
    return make_row([Message("user", question), Message("assistant", "yes")], "0" * 64, 1)


def _run(folder: Path) -> tuple[int, list[dict[str, Any]], str]:
    """Give the exit status, the events and what went to stderr."""
    job = Job(
        model=folder / "model",
        tokenizer=folder / "tokenizer",
        adapter=folder / "adapter",
        method=QLora(),
        train=folder / "train.parquet",
        test=folder / "test.parquet",
        out=folder / "out",
        events=folder / "events.jsonl",
        settings=EvaluateSettings(),
    )
    (folder / "job.json").write_text(job.model_dump_json())
    command = [sys.executable, "-m", "tunemill.evaluation", str(folder / "job.json")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode, list(rows.read_lines(job.events)), done.stderr


def test_a_test_row_that_was_trained_on_ends_with_status_3_and_one_error_event(tmp_path: Path) -> None:
    rows.write(tmp_path / "train.parquet", [_row("a"), _row("b")])
    rows.write(tmp_path / "test.parquet", [_row("b"), _row("c")])
    status, events, stderr = _run(tmp_path)
    assert status == 3
    assert [(event["event"], event["kind"]) for event in events] == [("error", "DataError")]
    assert events[0]["message"].startswith("evaluate: 1 of 2 test rows stand in the training rows too")
    assert stderr == ""
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_ends_with_status_1_and_keeps_its_traceback(tmp_path: Path) -> None:
    status, events, stderr = _run(tmp_path)
    assert (status, events[-1]["kind"]) == (1, "FileNotFoundError")
    assert "Traceback" in stderr
