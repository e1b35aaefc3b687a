"""What a run tells the person who started it: stage by stage, and at its end."""

from typing import Any

import pytest

from tasks.conclude import conclude
from tasks.run import StageRecord, pipeline_run
from tasks.screen import Screen, listed, shortened
from tests.stages.conftest import Chain
from tunemill.config import load
from tunemill.home import PROJECT, Home

COUNTS = {"files": 3, "rows": 384, "rejected": 16, "byte_order_marks": 1, "blank_lines": 2, "files_cut_short": 0}
REASON = "field_accuracy: fine-tuned is not shown to reach 0.99 [32 rows], " + "and that is told at length " * 4


def record(name: str, key: str, counts: dict[str, int], cached: bool = False) -> StageRecord:
    return StageRecord(name=name, key=key, digest="d", cached=cached, seconds=115.63, counts=counts)


def summary(gate: str, **changes: Any) -> dict[str, Any]:
    """Give what `tunemill run` prints at the end of a run with this verdict."""
    folder = f"{PROJECT}/.tunemill/store/export/{'e' * 32}"
    return {
        "gate": gate,
        "reasons": [] if gate == "PROMOTE" else [REASON],
        "text": f"# {gate}: on 32 test rows\n\n- {REASON}\n",
        "stages": [{"name": "export", "key": "e" * 32}],
        "page": f"{PROJECT}/.tunemill/store/page/{'d' * 32}/report/page.md",
        "report": f"{PROJECT}/.tunemill/store/evaluate/{'a' * 32}/report/report.md",
        "exports": {"gguf": f"{folder}/gguf", "adapter": "/elsewhere/adapter"},
        "serve": [f"ollama create oak -f {folder}/gguf/Modelfile"],
        "mlflow_run": "f" * 32,
        "run": "20261124T142245-4d3a8f",
        **changes,
    }


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Rich take stderr for a terminal of 100 columns without colours."""
    for name, value in {"TTY_COMPATIBLE": "1", "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return [line.rstrip() for line in err.splitlines()]


def test_a_stage_is_one_line_in_a_file_however_long_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen() as screen:
        screen.progress("ingest", 1, 3, "files")
        screen.ended(record("ingest", "f927835e65c9e6a8", {**COUNTS, **{f"number_{n}": 7 for n in range(20)}}))
        screen.warn("w" * 300)
    ingest, warning = told(capsys)
    assert ingest.startswith(
        "  ingest         115.6 s  f927835e65c9  3 files, 384 rows, 16 rejected, 1 byte order mark"
    )
    assert ingest.endswith("7 number 19")
    assert warning == "  warning  " + "w" * 300


def test_a_terminal_breaks_a_line_between_words_and_below_the_text(
    terminal: None, capsys: pytest.CaptureFixture[str]
) -> None:
    Screen().ended(record("ingest", "f927835e65c9e6a8", {**COUNTS, "conversations_without_an_end": 2}))
    assert told(capsys) == [
        "  ingest         115.6 s  f927835e65c9  3 files, 384 rows, 16 rejected, 1 byte order mark, 2 blank",
        "                                        lines, 2 conversations without an end",
    ]


def test_a_stage_that_is_asked_for_again_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    for key, cached in (("a" * 32, False), ("a" * 32, True), ("b" * 32, True)):
        screen.ended(record("tokenizer", key, {}, cached))
    assert told(capsys) == [f"  tokenizer      115.6 s  {'a' * 12}", f"  tokenizer         held  {'b' * 12}"]


def test_what_is_0_is_left_out_and_one_thing_is_singular() -> None:
    assert listed({"rows": 1_234, "rejected": 0, "files": 1, "failed": 1}) == "1,234 rows, 1 file, 1 failed"
    assert listed({"version": 3}) == "version 3"
    assert listed({"failed": 0}) == ""


@pytest.mark.parametrize("wide", [True, False])
def test_brackets_are_printed_and_not_taken_for_markup(
    wide: bool, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    if wide:
        request.getfixturevalue("terminal")
    screen = Screen()
    screen.warn("run: pip install -e '.[gguf]' [/bold]")
    screen.conclude(summary("REJECT"))
    text = "\n".join(told(capsys))
    assert "pip install -e '.[gguf]' [/bold]" in text
    assert "[32 rows]" in text


@pytest.mark.parametrize(
    ("gate", "last"),
    [
        ("PROMOTE", ["promote eeeeeeeeeeee --by NAME --reason TEXT"]),
        ("CANNOT_TELL", ["gate 20261124T142245-4d3a8f", "promote eeeeeeeeeeee --by NAME --reason TEXT"]),
        ("REJECT", ["gate 20261124T142245-4d3a8f"]),
        ("INVALID", ["gate 20261124T142245-4d3a8f"]),
    ],
)
def test_the_end_says_the_verdict_why_where_and_what_next(
    gate: str, last: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Screen().conclude(summary(gate))
    lines = told(capsys)
    assert lines[:2] == ["", f"  {gate}: on 32 test rows"]
    assert [line for line in lines if line.startswith("    ")] == (
        [] if gate == "PROMOTE" else [f"    {REASON.rstrip()}"]
    )
    folder = f".tunemill/store/export/{'e' * 32}/gguf"
    assert lines[-6 - 2 - len(last) : -2 - len(last)] == [
        f"  data page   .tunemill/store/page/{'d' * 32}/report/page.md",
        f"  report      .tunemill/store/evaluate/{'a' * 32}/report/report.md",
        f"  gguf        {folder}",
        "  adapter     /elsewhere/adapter",
        f"  MLflow run  {'f' * 32}",
        f"  serve       ollama create oak -f {folder}/Modelfile",
    ]
    steps = ["chat eeeeeeeeeeee", "trace eeeeeeeeeeee", *last]
    assert lines[-2 - len(last) :] == [f"  next        tunemill {step}" for step in steps]


def test_on_a_terminal_what_is_copied_stays_whole(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    Screen().conclude(summary("CANNOT_TELL"))
    lines = told(capsys)
    assert max(len(line) for line in lines if line.startswith("    ")) <= 100
    assert f"  serve       ollama create oak -f .tunemill/store/export/{'e' * 32}/gguf/Modelfile" in lines


def test_without_a_gguf_or_mlflow_neither_is_offered(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().conclude(summary("PROMOTE", exports={"adapter": "/a"}, serve=[], mlflow_run=None))
    text = "\n".join(told(capsys))
    assert "chat" not in text and "MLflow" not in text and "serve" not in text


def test_only_paths_inside_the_project_are_shortened() -> None:
    assert shortened(f"vllm serve {PROJECT}/a/b --port 1") == "vllm serve a/b --port 1"
    assert shortened(f"/mnt{PROJECT}/a") == f"/mnt{PROJECT}/a"


def test_a_run_is_summed_up_by_these_keys_and_each_stage_stands_once(chain: Chain, copied: Home) -> None:
    """`tunemill run --json` prints this."""
    with pipeline_run(load(PROJECT / "pipeline_configs" / "quickstart.yaml")) as run:
        for artifact, cached in ((chain.splits, False), (chain.exported, True), (chain.splits, True)):
            run.ended(StageRecord.of(artifact, cached, 1.5))
        found = conclude(chain.exported, chain.verification, chain.decision)
    asked = {"verdict", "stages", "page", "report", "exports", "mlflow_run"}
    assert set(found) - asked == {"gate", "reasons", "serve", "run", "warnings", "verification", "text"}
    assert asked <= set(found)
    of = {"key": chain.splits.key, "cached": False, "seconds": 1.5, "counts": chain.splits.counts}
    assert found["stages"][0] == {"name": "split", **of}
    assert [stage["name"] for stage in found["stages"]] == ["split", "export"]
    folder = copied.store / "export" / chain.exported.key
    assert found["exports"] == {name: str(folder / name) for name in ("gguf", "merged", "adapter")}
    assert (found["gate"], found["run"]) == ("PROMOTE", run.id)
