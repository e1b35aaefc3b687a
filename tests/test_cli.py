"""The command line as a person and a script meet it: exit statuses, one JSON object, help that teaches."""

import shlex
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer

from tests.stages.conftest import Chain
from tests.stages.conftest import chain as chain
from tests.stages.conftest import copied as copied
from tests.stages.conftest import made_chain as made_chain
from tunemill import cli
from tunemill.home import Home

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
Said = tuple[int, str, str]


@pytest.fixture
def tunemill(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command in this process: words → (exit status, stdout, stderr)."""

    def call(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["tunemill", *words])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = int(end.code or 0)
        return (status, *capsys.readouterr())

    return call


def test_status_0_is_done(chain: Chain, tunemill: Any) -> None:
    status, out, err = tunemill("trace", "letters.jsonl:4")
    assert (status, err) == (0, "")
    assert "rejected: `answer` shorter than 50 characters" in out


def test_status_1_is_a_store_that_cannot_be_believed(chain: Chain, copied: Home, tunemill: Any) -> None:
    file = copied.store / "verify" / chain.verification.key / "verification.json"
    file.write_bytes(file.read_bytes().replace(b"true", b"tRue"))
    status, out, err = tunemill("gate", "last")
    assert (status, out) == (1, "")
    assert f"{file}: the bytes differ from those sealed" in err


@pytest.mark.parametrize(
    "words",
    [
        ("trace", "nothing"),
        ("show", "ffffff"),
        ("gate", "1999"),
        ("chat", "ffffff"),
        ("plan", "pipeline_configs/gone.yaml"),
        ("run", "pipeline_configs/quickstart.yaml", "--set", "train.epoch=2"),
    ],
)
def test_status_2_is_what_was_asked_for(chain: Chain, tunemill: Any, words: tuple[str, ...]) -> None:
    status, out, err = tunemill(*words)
    assert (status, out) == (2, "")
    assert err.count("\n") <= 4
    assert "Traceback" not in err


def test_status_3_is_a_file_that_cannot_be_used(chain: Chain, tmp_path: Path, tunemill: Any) -> None:
    whole = (chain.store.open(chain.exported) / "gguf" / "q8_0.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    status, out, err = tunemill("trace", str(tmp_path / "cut.gguf"))
    assert (status, out) == (3, "")
    assert "cut.gguf is not whole" in err


def test_status_4_is_the_gate(chain: Chain, tunemill: Any) -> None:
    assert tunemill("gate", "last")[0] == 0
    status, out, err = tunemill("gate", "last", "--set", "gate.rules=[{metric: exact_match, at_least: 0.99}]")
    assert (status, err) == (4, "")
    assert out.startswith("# CANNOT_TELL: ")


def test_each_answer_is_one_json_object(chain: Chain, tunemill: Any) -> None:
    for words in (
        ("trace", chain.exported.key),
        ("trace", "letters.jsonl:1"),
        ("trace", "letters.jsonl"),
        ("show", chain.exported.key[:8]),
        ("gate", chain.run),
        ("plan", "pipeline_configs/quickstart.yaml"),
        ("doctor",),
    ):
        _, out, _ = tunemill(*words, "--json")
        assert isinstance(orjson.loads(out), dict), words
        assert out.count("\n") == 1


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_says_what_a_command_does_and_gives_examples_that_parse(name: str, tunemill: Any) -> None:
    status, out, _ = tunemill(name, "--help")
    command = COMMANDS[name]
    assert status == 0
    assert all(word in " ".join(out.split()) for word in str(command.help).split())
    examples = str(command.epilog or f"Example: tunemill {name}").partition(": ")[2].split("; ")
    for example in examples:
        program, called, *words = shlex.split(example)
        assert (program, called) == ("tunemill", name)
        command.make_context(name, words)


def test_every_command_but_those_without_arguments_has_an_example() -> None:
    assert {name for name, command in COMMANDS.items() if not command.epilog} == {"doctor", "down", "schema", "status"}
