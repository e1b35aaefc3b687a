"""What the doctor finds, on the machine that the tests run on."""

import socket
from pathlib import Path

import pytest

from tasks import doctor
from tunemill.home import Home


def find(name: str) -> doctor.Finding:
    return next(finding for finding in doctor.examine() if finding.name == name)


def test_the_packages_that_the_tests_run_with_are_those_of_the_lock() -> None:
    found = find("packages")
    assert (found.state, found.cure) == ("ok", ""), found.found


def test_a_server_that_does_not_answer_is_missing_with_the_way_to_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
    found = find("prefect")
    assert found.state == "missing"
    assert "Connection refused" in found.found
    assert found.cure == "start it: prefect server start"


def test_a_home_that_cannot_be_written_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEMILL_HOME", "/proc/tunemill")
    assert Home.find().root == Path("/proc/tunemill")
    found = find("disk")
    assert found.state == "missing"
    assert found.found.startswith("/proc/tunemill cannot be written")


def test_each_finding_that_is_not_good_says_what_to_do() -> None:
    assert all(finding.cure for finding in doctor.examine() if finding.state != "ok")
