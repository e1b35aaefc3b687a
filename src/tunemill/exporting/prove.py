"""Prove an export: ask the adapter as trained and every file that ships the same questions, and compare."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import orjson

from tunemill import child, segments
from tunemill.evaluation.arms import answering, held_out
from tunemill.evaluation.gate_evidence import ShippedFile, Verified
from tunemill.evaluation.generation import Answer
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.exporting import checks, shipped
from tunemill.exporting.checks import Asked
from tunemill.exporting.llama import Reply
from tunemill.exporting.proof import Agreement, Check
from tunemill.exporting.reference import Questions
from tunemill.exporting.verify_settings import VerifySettings
from tunemill.rows import read_lines

Hear = Callable[[int, int], None]
FLOOR = "noise floor"
SMALL_BATCH, REPEATED = 32, 8
"""Positions that llama.cpp computes at a time when its own noise floor is measured, and conversations it takes."""


@dataclass(frozen=True)
class Folders:
    """Where everything lies that a proof reads; all of it was checked against its manifest."""

    model: Path
    tokenizer: Path
    trained: Path
    """Folder of the adapter as trained."""
    merged: Path
    """Checkpoint of the merge, which is proven also where it does not ship."""
    quantized: Path
    exported: Path
    evaluation: Path
    test: Path
    """Parquet of the test rows."""
    scratch: Path


@dataclass
class Findings:
    """What was found, file by file."""

    asked: Asked
    questions: Questions
    checks: list[Check] = field(default_factory=list)
    files: list[ShippedFile] = field(default_factory=list)
    links: dict[str, Agreement] = field(default_factory=dict)
    """Next-token agreement of every step with the adapter, those that do not ship included."""
    replies: dict[str, Reply] = field(default_factory=dict)
    """Row id → what llama.cpp said."""

    @property
    def failed(self) -> list[Check]:
        """The checks over their bounds."""
        return [check for check in self.checks if not check.passed]

    @property
    def verified(self) -> Verified:
        """The same for the gate, in few words."""
        steps = tuple(f"{check.file} ({check.measure})" for check in self.failed)
        return Verified(not steps, steps, tuple(self.questions.row_ids), tuple(self.files))


def prove(
    folders: Folders,
    method: dict[str, Any],
    evaluated: EvaluateSettings,
    wanted: str,
    settings: VerifySettings,
    hear: Hear,
) -> Findings:
    """Ask all and compare all.

    Args:
        method: how the adapter was trained.
        evaluated: settings of the evaluation: the same rows, decoding and metrics are used.
        wanted: the precision that was asked for; another one that ships stands in for it.
        hear: hears how many answers are there, and how many there will be.
    """
    rows = held_out(segments.read(folders.test), [], evaluated.max_rows)
    progress = _Progress(3 * len(rows), hear)
    _ask_transformers(folders, method, evaluated, settings, progress)
    questions = msgspec.json.decode((folders.scratch / "questions.json").read_bytes(), type=Questions)
    said = _answers(folders.scratch / "answers.jsonl", "file")
    asked = Asked(
        rows=[answering(row, text) for row, text in zip(rows, questions.references, strict=True)],
        prompts=dict(zip(questions.row_ids, questions.prompts, strict=True)),
        forged=frozenset(questions.forged),
        places=questions.places,
        trained=folders.scratch / "trained.npy",
        again=folders.scratch / "again.npy",
        answers=_answers(folders.evaluation / "generations.jsonl", "arm")["tuned"],
        answers_again=said["again"],
        settings=evaluated,
    )
    found = Findings(asked, questions)
    found.checks += checks.enough(asked, settings.prompts, settings.positions)
    found.links[FLOOR] = asked.distance(asked.again)
    _prove_merged(found, folders, said["merged"], settings)
    _prove_adapter(found, folders)
    _prove_gguf(found, folders, wanted, settings, progress)
    return found


def _ask_transformers(
    folders: Folders,
    method: dict[str, Any],
    evaluated: EvaluateSettings,
    settings: VerifySettings,
    progress: "_Progress",
) -> None:
    job = {
        "model": str(folders.model),
        "tokenizer": str(folders.tokenizer),
        "adapter": str(folders.trained),
        "method": method,
        "merged": str(_merged(folders)),
        "test": str(folders.test),
        "out": str(folders.scratch),
        "events": str(folders.scratch / "events.jsonl"),
        "prompts": settings.prompts,
        "positions": settings.positions,
        "settings": evaluated.model_dump(mode="json"),
    }
    path = folders.scratch / "job.json"
    path.write_bytes(orjson.dumps(job))
    child.run("tunemill.exporting.reference", path, folders.scratch / "events.jsonl", progress.event)


def _prove_merged(found: Findings, folders: Folders, said: dict[str, Answer], settings: VerifySettings) -> None:
    path, prompts = folders.scratch / "merged.npy", found.questions.merged_prompts
    by_row = dict(zip(found.questions.row_ids, prompts, strict=True))
    near = found.links["merged"] = found.asked.distance(path)
    found.checks += checks.checks(found.asked, "merged", by_row, near, found.links[FLOOR], said, settings.merged)
    if (folders.exported / "merged").is_dir():
        found.checks.append(shipped.same_tensors("merged", folders.merged, folders.exported / "merged"))
        found.files.append(checks.shipped(found.asked, "merged", "16 bits", said))


def _prove_adapter(found: Findings, folders: Folders) -> None:
    if (folders.exported / "adapter").is_dir():
        found.checks.append(shipped.same_tensors("adapter", folders.trained, folders.exported / "adapter"))
        found.files.append(checks.shipped(found.asked, "adapter", "as trained", found.asked.answers))


def _prove_gguf(
    found: Findings, folders: Folders, wanted: str, settings: VerifySettings, progress: "_Progress"
) -> None:
    folder = folders.exported / "gguf"
    if not folder.is_dir():
        return
    kind = orjson.loads((folders.quantized / "quantize.json").read_bytes())["kind"]
    file, scratch = folder / f"{kind}.gguf", folders.scratch
    found.replies = shipped.ask(file, found.asked, found.questions, scratch, progress.add)
    path = shipped.distributions(file, found.questions, scratch / f"{kind}.npy")
    few = shipped.first(found.questions, REPEATED)
    again = shipped.distributions(file, few, scratch / f"{kind}-again.npy", batch=SMALL_BATCH)
    answers = {row_id: reply.answer for row_id, reply in found.replies.items()}
    prompts = {row_id: reply.prompt_ids for row_id, reply in found.replies.items()}
    near, floor = found.asked.distance(path), checks.own_noise(path, again)
    compared = msgspec.structs.replace(found.asked, forged=found.asked.forged | found.asked.tooled)
    found.checks += checks.checks(compared, kind, prompts, near, floor, answers, settings.gguf)
    found.checks.append(shipped.same_tensors(kind, folders.quantized, folder))
    found.checks += shipped.modelfile_checks(folder, folders.tokenizer, found.asked)
    whole = shipped.distributions(folders.quantized / "f16.gguf", found.questions, scratch / "f16.npy")
    found.links |= {"f16": found.asked.distance(whole), kind: near}
    found.files.append(checks.shipped(found.asked, kind, kind, answers, wanted if kind != wanted else None))


def _merged(folders: Folders) -> Path:
    ships = folders.exported / "merged"
    return ships if ships.is_dir() else folders.merged


def _answers(path: Path, by: str) -> dict[str, dict[str, Answer]]:
    """Read answers to test rows, those to fixed prompts left out: file or arm → row id → answer."""
    found: dict[str, dict[str, Answer]] = {}
    for line in read_lines(path):
        if "row_id" in line:
            found.setdefault(line[by], {})[line["row_id"]] = msgspec.convert(line, Answer)
    return found


class _Progress:
    """Count answers over all files."""

    def __init__(self, total: int, hear: Hear) -> None:
        self.total, self.hear, self.before, self.done = total, hear, 0, 0

    def event(self, event: dict[str, Any]) -> None:
        """Hear the process that asks transformers: it tells how many more were answered."""
        if event["event"] == "answered":
            self.before += event["count"]
            self.add(0)

    def add(self, done: int) -> None:
        """Hear llama.cpp: it tells how many are answered in all."""
        self.hear(min(self.before + done, self.total), self.total)
