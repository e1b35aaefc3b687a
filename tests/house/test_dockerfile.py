"""Run the steps of docker/Dockerfile in a folder that stands for the image, without Docker.

What a folder cannot show: the packages of the slim image, another user, and a GPU.
"""

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pytest

from tunemill.home import PROJECT

WORDS = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "ENTRYPOINT", "CMD"}
AS_ROOT = (
    "apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* "
    "&& useradd --uid 1000 --home-dir /var/lib/tunemill --create-home tunemill"
)
"""The one step that is not run here: it changes the machine. The folder that it makes is made in its place."""
PLAN = ("plan", "pipeline_configs/quickstart.yaml")

Step = tuple[str, str]


def parse(text: str) -> list[Step]:
    """Read (instruction, argument) pairs; what is not one of `WORDS` is refused rather than passed over."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    steps = [tuple(line.split(maxsplit=1)) for line in joined.splitlines()]
    for step in steps:
        assert len(step) == 2 and step[0] in WORDS, f"{' '.join(step)}: no instruction that this test can run"
    return [(word, argument) for word, argument in steps]


def words(argument: str) -> list[str]:
    """Read the JSON form of ENTRYPOINT, CMD and VOLUME; the shell form would not hear a signal."""
    found = json.loads(argument)
    assert isinstance(found, list) and all(isinstance(word, str) for word in found)
    return found


@dataclass
class Image:
    """A folder that stands for the root of an image, and what its Dockerfile has settled so far."""

    root: Path
    context: Path
    """What the builder is sent."""
    environment: dict[str, str]
    """What every step sees; ARG and ENV add to it."""
    folder: str = "/"
    user: str = "root"
    volumes: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    def place(self, path: str) -> Path:
        """Say where a path of the image lies here."""
        return self.root / str(PurePosixPath(self.folder) / path).lstrip("/")

    def take(self, word: str, argument: str) -> None:
        """Do one instruction that runs nothing."""
        if word in ("ARG", "ENV"):
            for pair in shlex.split(argument):
                name, equals, value = pair.partition("=")
                assert equals, f"{word} {pair}: give it a value"
                self.environment[name] = str(self.place(value)) if value.startswith("/") else value
        elif word == "WORKDIR":
            self.folder = argument
            self.place(".").mkdir(parents=True)
        elif word == "COPY":
            self.copy(*argument.split())
        elif word == "USER":
            self.user = argument
        elif word == "VOLUME":
            self.volumes = words(argument)
        elif word == "ENTRYPOINT":
            self.entrypoint = words(argument)
        elif word == "CMD":
            self.command = words(argument)

    def copy(self, *arguments: str) -> None:
        """Copy files into a folder, or the content of a folder to a folder; options are not known here."""
        *sources, target = arguments
        for source in sources:
            assert not source.startswith("-")
            path = self.context / source
            assert path.exists(), f"COPY {source}: the builder is not sent it"
            if path.is_dir():
                assert len(sources) == 1
                shutil.copytree(path, self.place(target), dirs_exist_ok=True)
            else:
                assert target.endswith("/"), f"COPY {source} {target}: say {target}/ for a folder"
                shutil.copy(path, self.place(target))

    def run(self, line: str) -> None:
        """Run a shell line; the one that needs root is replaced by the folder that it makes."""
        if line == AS_ROOT:
            (self.root / "var/lib/tunemill").mkdir(parents=True)
            return
        assert "apt-get" not in line and "useradd" not in line
        done = subprocess.run(
            ["sh", "-ec", line], cwd=self.place("."), env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"RUN {line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        self.ran.append(line)

    def start(self, *arguments: str) -> str:
        """Start the image with these arguments, or with its own, and give what it prints to stdout."""
        program, *first = self.entrypoint
        found = shutil.which(program, path=self.environment["PATH"])
        assert found and Path(found).is_relative_to(self.root), f"{program} is not in the image"
        done = subprocess.run(
            [found, *first, *(arguments or self.command)],
            cwd=self.place("."),
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def outside_volumes(self) -> set[tuple[str, int]]:
        """List every file of the image with its time of change, but those in volumes."""
        kept = [self.place(volume) for volume in self.volumes]
        files = (path for path in self.root.rglob("*") if not any(path.is_relative_to(volume) for volume in kept))
        return {(str(path), path.lstat().st_mtime_ns) for path in files if not path.is_dir()}


def ignored(path: str, patterns: list[str]) -> bool:
    """Say whether .dockerignore keeps a file from the builder: of the patterns that match it, the last decides."""
    parents = [path, *(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")]
    out = False
    for pattern in patterns:
        bare = pattern.removeprefix("!")
        names = [each.rpartition("/")[2] for each in parents] if bare.startswith("**/") else parents
        bare = bare.removeprefix("**/")
        assert not re.search(r"[/?\[]", bare), f".dockerignore: {pattern} is of a form that this test does not know"
        # A * of Docker stops at a slash, so it matches the first part of a path alone.
        if any(fnmatch.fnmatchcase(name, bare) for name in names if "/" not in name):
            out = not pattern.startswith("!")
    return out


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    return parse((PROJECT / "docker" / "Dockerfile").read_text())


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Image]:
    """Give an empty image whose context is what git holds of the checkout, less what .dockerignore keeps back."""
    if not (PROJECT / ".git").exists():
        pytest.skip("the context is what git holds, and this is no checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    context = tmp_path / "context"
    for name in listed:
        if name and not ignored(name, patterns) and (PROJECT / name).is_file():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, context / name)
    passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "proxy" in name.lower()}
    root = tmp_path / "image"
    path = f"{root}/usr/local/bin:/usr/local/bin:/usr/bin:/bin"
    own = {"PATH": path, "HOME": str(root / "var/lib/tunemill"), "TERM": "dumb", "COLUMNS": "100"}
    yield Image(root, context, {**passed, **own})
    shutil.rmtree(tmp_path)  # gigabytes, once it is filled


def test_an_instruction_that_cannot_be_run_here_is_refused() -> None:
    with pytest.raises(AssertionError, match="HEALTHCHECK CMD true: no instruction that this test can run"):
        parse("FROM python:3.11-slim\n# a comment\nHEALTHCHECK CMD true\n")
    assert parse("RUN one \\\n  # between\n  && two\n") == [("RUN", "one && two")]


def test_the_last_pattern_that_matches_decides_what_the_builder_is_sent() -> None:
    patterns = ["*", "!src", "**/__pycache__", "**/*.egg-info"]
    sent = ["src/a.py", "src/deep/b.py", "src/__pycache__/a.pyc", "src/t.egg-info/x", "tests/a.py", ".env"]
    assert [path for path in sent if not ignored(path, patterns)] == ["src/a.py", "src/deep/b.py"]


def test_the_image_runs_tunemill_as_another_user_than_root_with_its_state_in_a_volume(steps: list[Step]) -> None:
    assert [argument for word, argument in steps if word == "FROM"] == ["python:3.11-slim"]
    assert [argument for word, argument in steps if word == "USER"] == ["tunemill"]
    assert ("VOLUME", '["/var/lib/tunemill"]') in steps
    assert [argument for word, argument in steps if word == "RUN"].count(AS_ROOT) == 1
    last = [word for word, _ in steps][-4:]
    assert last == ["USER", "VOLUME", "ENTRYPOINT", "CMD"]


def test_what_the_image_copies_is_all_that_a_plan_needs(steps: list[Step], image: Image) -> None:
    for word, argument in steps:
        if word != "RUN":
            image.take(word, argument)
    project = image.place(".")
    assert {path.name for path in project.iterdir()} == {path.name for path in image.context.iterdir()}
    assert not [path for path in project.rglob("*") if path.name in ("__pycache__", ".git", ".tunemill", "tests")]
    code = "from tunemill.cli import main; main()"
    environment = {**image.environment, "PYTHONPATH": f"{project / 'src'}:{project}"}
    command = [sys.executable, "-c", code, *PLAN]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ingest       runs")
    assert (image.root / "var/lib/tunemill/sources.jsonl").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_step_but_the_one_of_root_runs_and_the_image_prints_its_help_and_a_plan(
    steps: list[Step], image: Image
) -> None:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the image has Python 3.11; this is another")
    subprocess.run([sys.executable, "-m", "venv", str(image.root / "usr/local")], check=True)
    for word, argument in steps:
        image.run(argument) if word == "RUN" else image.take(word, argument)
    assert [line.split()[:2] for line in image.ran] == [["pip", "install"], ["pip", "install"]]
    before = image.outside_volumes()
    assert "Usage: tunemill [OPTIONS] COMMAND" in image.start()
    assert image.start(*PLAN).startswith("ingest       runs")
    assert (image.root / "var/lib/tunemill/sources.jsonl").exists()
    assert image.outside_volumes() == before
