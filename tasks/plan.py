"""Plan: say which stages a run would hold, make, or cannot know yet, without running or loading any of them.

Each artifact type is made by one stage, so the stages' signatures say how they are joined; what may be None, such as
the split of an earlier night, is known before any of them runs, or once what it has to be a part of is.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from tasks.deduplicate import deduplicate
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.gate import gate
from tasks.history import earlier_clean, earlier_splits
from tasks.ingest import closed_files, ingest
from tasks.located import located_model
from tasks.merge import merge
from tasks.model import model, tokenizer
from tasks.page import page
from tasks.quantize import quantize
from tasks.read_file import read_file
from tasks.screen import listed
from tasks.split import benchmark_files, split
from tasks.stage import Stage, changed
from tasks.train import train
from tasks.validate import rows_files, unchecked, validate
from tasks.verify import verify
from tunemill.artifacts import (
    Artifact,
    BenchmarkFiles,
    CleanDataset,
    RawDataset,
    SourceFile,
    SourceFiles,
    Splits,
    Tokenizer,
    ValidDataset,
)
from tunemill.config import PipelineConfig
from tunemill.errors import DataError
from tunemill.home import Home
from tunemill.models.sources import ModelSource
from tunemill.quality.page_settings import Task
from tunemill.section import Section
from tunemill.sources.estimate import estimate
from tunemill.store import Store

STAGES: tuple[Stage[Any, Any], ...] = (
    *(ingest, tokenizer, validate, deduplicate, split, page, model, train, evaluate),
    *(merge, quantize, export, verify, gate),
)
"""In the order of the flow; promote is none of them, since it always looks at the registry."""


class Step(BaseModel):
    """What a run would do with one stage."""

    name: str
    state: Literal["held", "runs", "depends"]
    key: str | None = None
    why: list[str] = []
    """Parts of the key that differ from the nearest held artifact, or the stages it depends on."""
    counts: dict[str, int] = {}
    """What the held artifact holds."""
    estimated: dict[str, int] = {}
    """What the stage may put out, from the first records of each file; empty where `counts` is exact."""


def planned(config: PipelineConfig) -> list[Step]:
    """Go through the stages in order; only what is held has a digest that the next stage's key can use."""
    store = Store(Home.find().store)
    sections = {type(s): s for s in (getattr(config, name) for name in type(config).model_fields)}
    files = closed_files(config.ingest)
    known: dict[Any, Any] = {
        SourceFiles: files,
        Splits | None: earlier_splits(files, config.split),
        BenchmarkFiles: benchmark_files(config.split),
        ModelSource: located_model(config.model),
        Task: Task(type=config.task_type),
        **{kind: section for kind, section in sections.items() if isinstance(section, Section)},
    }
    steps = []
    for stage in STAGES:
        steps.append(_step(stage, known, store))
        if stage is validate and ValidDataset in known:
            known[CleanDataset | None] = earlier_clean(known[ValidDataset], config.deduplicate)
    return [_estimated(step, known, store, config) for step in steps]


def _estimated(step: Step, known: dict[Any, Any], store: Store, config: PipelineConfig) -> Step:
    """Add the rows that ingest has to read, or the tokens that validate has to count: those of new files alone."""
    if step.name not in (ingest.name, validate.name) or step.state == "held":
        return step
    files = {file.sha256: file for file in known[SourceFiles].files}
    if step.name == validate.name and step.state == "runs":
        tables = rows_files(store, known[RawDataset])
        new = {table.source for table in unchecked(store, tables, known[Tokenizer], config.validation)}
        count = len(tables)
    else:
        new = {digest for digest, file in files.items() if not _was_read(file, store, config)}
        count = len(files)
    found = estimate([(Path(file.path), digest) for digest, file in files.items() if digest in new], config.ingest)
    size = {"records": found.records, "rows": found.rows} if step.name == ingest.name else {"tokens": found.tokens}
    some = [f"{len(new):,} of {count:,} files are new"] if step.state == "runs" and len(new) < count else []
    return step.model_copy(update={"why": [*step.why, *some], "estimated": size if new else {}})


def _was_read(file: SourceFile, store: Store, config: PipelineConfig) -> bool:
    try:
        return read_file.stands(store, file, config.ingest.of_one_file(Path(file.path)))
    except DataError:  # the run says so when it reads the file
        return False


def _step(stage: Stage[Any, Any], known: dict[Any, Any], store: Store) -> Step:
    kinds = stage.parameters.values()
    unknown = [k.stage for k in kinds if isinstance(k, type) and issubclass(k, Artifact) and k not in known]
    if unknown:
        return Step(name=stage.name, state="depends", why=unknown)
    arguments = {name: known[kind] for name, kind in stage.parameters.items()}
    key = stage.key(arguments)
    manifest = store.manifest(stage.name, key)
    if manifest is None:
        why = changed(stage.parts(arguments), store.manifests(stage.name))
        return Step(name=stage.name, state="runs", key=key, why=why or ["never made"])
    known[stage.makes] = manifest.artifact(stage.makes)
    return Step(name=stage.name, state="held", key=key, counts=manifest.counts)


def shown(steps: list[Step]) -> str:
    """Give a plan as lines of text."""
    lines = []
    for step in steps:
        counts, guess = listed(step.counts), listed(step.estimated)
        why = f"depends on {', '.join(step.why)}" if step.state == "depends" else "; ".join(step.why)
        about = f" (about {guess})" if guess else ""
        lines.append(f"{step.name:<12} {step.state:<8} {(step.key or '')[:12]:<12}  {counts or why}{about}".rstrip())
    return "\n".join(lines)
