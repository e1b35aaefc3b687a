from pathlib import Path

import pytest

from benchmarks.data import environments, run
from benchmarks.data.report import written


def test_every_engine_has_a_script_and_a_pinned_version() -> None:
    for name, requirements in environments.PEERS.items():
        assert (run.PEERS / f"{name.replace('-', '_')}.py").is_file(), name
        assert all("==" in wanted or "<" in wanted for wanted in requirements), name


@pytest.mark.slow
def test_an_engine_that_pip_cannot_install_is_one_line_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setitem(environments.PEERS, "nowhere", ("nowhere==1.0",))
    found = run._peer("nowhere", tmp_path / "rows.jsonl", 60, 10_000)
    known = {"date": "", "cores": 2, "cpu": "", "memory_gb": 1, "load": 0, "busy": False, "python": "", "versions": {}}
    page = written({"machine": known, "sizes": {"10000": {"floor": {"parts": {}}, **found}}})
    line = "| 10,000 | nowhere 1.0 | not installed: ERROR: No matching distribution found for nowhere==1.0 |"
    assert line in page, page
