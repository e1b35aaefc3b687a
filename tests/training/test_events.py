from pathlib import Path

import orjson
import pytest

from tunemill.training.events import Events, span


def test_events_are_appended_one_object_a_line(tmp_path: Path) -> None:
    for step in (1, 2):
        with Events(tmp_path / "events.jsonl") as events:
            events.tell("step", step=step, loss=0.5)
    lines = [orjson.loads(line) for line in (tmp_path / "events.jsonl").read_bytes().splitlines()]
    assert [(line["event"], line["step"], line["loss"]) for line in lines] == [("step", 1, 0.5), ("step", 2, 0.5)]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (42.4, "42 s"), (120, "2 min"), (5340, "89 min"), (11100, "3 h 05 min")]
)
def test_a_time_is_written_for_people(seconds: float, text: str) -> None:
    assert span(seconds) == text
