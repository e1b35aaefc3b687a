"""Run real child processes and break them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from tunemill import child, errors
from tunemill.child import ChildDied

EVENTS = "events = Path(sys.argv[1]).with_name('events.jsonl').open('ab', buffering=0)\n"
BEGIN = f"import os, signal, sys, time\nfrom pathlib import Path\nfrom tunemill import child, errors\n{EVENTS}"

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give a function that writes a module, runs it as a child and returns the events that were heard."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run(code: str, heed: Callable[[dict[str, Any]], None] = lambda event: None) -> list[dict[str, Any]]:
        (tmp_path / "step_of_a_test.py").write_text(BEGIN + code)
        heard = []

        def hear(event: dict[str, Any]) -> None:
            heard.append(event)
            heed(event)

        child.run("step_of_a_test", tmp_path / "job.json", tmp_path / "events.jsonl", hear, pause=0.01)
        return heard

    return run


def test_events_are_heard_in_order_while_the_child_runs(run: Run, tmp_path: Path) -> None:
    code = """
def work(emit):
    for number in range(3):
        emit({"event": "step", "step": number})
        while not Path(sys.argv[1]).with_name(f"heard-{number}").exists():
            time.sleep(0.005)
sys.exit(child.serve(Path(sys.argv[1]).with_name("events.jsonl"), work))
"""
    heard = run(code, lambda event: (tmp_path / f"heard-{event['step']}").touch())
    assert [event["step"] for event in heard] == [0, 1, 2]


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        ("errors.DataError('3 rows of 4 train nothing')", errors.DataError, "3 rows of 4 train nothing"),
        ("errors.MissingExtra('gguf', 'gguf')", errors.MissingExtra, "gguf is not installed"),
        ("errors.ArtifactDamaged(Path('a'), 'b', 'gone')", errors.ArtifactDamaged, "a/b: gone"),
    ],
)
def test_an_error_of_our_own_comes_back_by_its_class(
    run: Run, raised: str, kind: type[errors.TunemillError], message: str
) -> None:
    code = f"""
def work(emit):
    raise {raised}
sys.exit(child.serve(Path(sys.argv[1]).with_name("events.jsonl"), work))
"""
    with pytest.raises(errors.TunemillError, match=message) as caught:
        run(code)
    assert type(caught.value) is kind


def test_another_error_comes_back_with_its_traceback(run: Run) -> None:
    code = """
def work(emit):
    {}["absent"]
sys.exit(child.serve(Path(sys.argv[1]).with_name("events.jsonl"), work))
"""
    with pytest.raises(ChildDied, match="step_of_a_test ended with status 1") as caught:
        run(code)
    assert 'in work\n    {}["absent"]' in str(caught.value)
    assert str(caught.value).endswith("KeyError: 'absent'")


def test_a_child_killed_by_a_signal_is_told_with_its_last_20_lines(run: Run) -> None:
    code = """
for number in range(30):
    print("line", number, file=sys.stderr)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with pytest.raises(ChildDied, match="step_of_a_test ended by signal 9") as caught:
        run(code)
    assert str(caught.value).splitlines()[1:] == [f"line {number}" for number in range(10, 30)]


def test_a_child_that_ends_with_75_says_that_its_state_is_saved(run: Run) -> None:
    with pytest.raises(ChildDied, match="because it was told to stop; its state is saved"):
        run("sys.exit(75)")


def test_an_empty_line_is_passed_over_and_a_line_in_two_parts_is_one_event(run: Run) -> None:
    code = """
events.write(b'\\n{"event": "st')
time.sleep(0.1)
events.write(b'ep", "step": 1}\\n\\n{"event": "step", "step": 2}\\n')
"""
    assert run(code) == [{"event": "step", "step": 1}, {"event": "step", "step": 2}]


@pytest.mark.parametrize("line", ["loss: 0.3", "12"])
def test_a_line_that_is_no_event_is_named_and_ends_the_child(run: Run, tmp_path: Path, line: str) -> None:
    code = f"""
Path(sys.argv[1]).with_name("pid").write_text(str(os.getpid()))
events.write(b'{{"event": "step"}}\\n{line}\\n')
time.sleep(60)
"""
    with pytest.raises(ChildDied, match="wrote a line that is no event") as caught:
        run(code)
    assert str(caught.value).endswith(f"{tmp_path / 'events.jsonl'}:2 is b'{line}'")
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_the_half_line_of_a_killed_child_is_gone_when_the_next_one_writes(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ChildDied):
        run("""events.write(b'{"event": "first"}\\n{"event": "se'); os.kill(os.getpid(), signal.SIGKILL)""")
    assert run("""events.write(b'{"event": "second"}\\n')""") == [{"event": "second"}]
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["event"] for line in lines] == ["first", "second"]


def test_a_child_is_ended_when_what_it_tells_cannot_be_heard(run: Run, tmp_path: Path) -> None:
    code = """
Path(sys.argv[1]).with_name("pid").write_text(str(os.getpid()))
events.write(b'{"event": "step"}\\n')
time.sleep(60)
"""

    def deaf(event: dict[str, Any]) -> None:
        raise ConnectionError("no")

    with pytest.raises(ConnectionError):
        run(code, deaf)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_a_child_dies_with_its_killed_parent(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    (tmp_path / "sleeper.py").write_text(
        f"import os, time; open({str(pid)!r}, 'w').write(f'{{os.getpid()}}.')\ntime.sleep(60)"
    )
    paths = f"Path({str(tmp_path / 'job.json')!r}), Path({str(tmp_path / 'events.jsonl')!r})"
    code = f"from pathlib import Path; from tunemill import child; child.run('sleeper', {paths}, print)"
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(tmp_path)})
    wait(lambda: pid.exists() and pid.read_text().endswith("."))
    orphan = psutil.Process(int(pid.read_text()[:-1]))
    assert orphan.ppid() == parent.pid
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)


def wait(until: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)
