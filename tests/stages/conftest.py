"""A state folder with the whole chain from two log files to a verdict: data, export and gate made by their own stages.

letters.jsonl, line by line:

     1  a row                                            4  answer too short: rejected by validate
     2  a row with white space at its end                5  the same row as line 1
     3  broken JSON: rejected by ingest                  6  nearly the same as line 2
     7 to 66  a row each

chats.json holds three more rows in one line. What only a GPU or minutes could make is sealed as those stages seal it.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import orjson
import pytest

from tasks.deduplicate import deduplicate
from tasks.export import export
from tasks.gate import gate
from tasks.ingest import closed_files, ingest
from tasks.run import StageRecord, pipeline_run
from tasks.split import split
from tasks.validate import validate
from tests.exporting import test_export as small
from tunemill.artifacts import (
    Adapter,
    Artifact,
    BaseWeights,
    BenchmarkFiles,
    Decision,
    Evaluation,
    Exported,
    Merged,
    Quantized,
    Splits,
    Tokenizer,
    Verification,
    digest_of,
)
from tunemill.config import PipelineConfig, load
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.evaluation.arms import Arm
from tunemill.evaluation.gate_evidence import ShippedFile, Verified
from tunemill.evaluation.gate_settings import GateSettings
from tunemill.evaluation.generation import Answer, Likelihood
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.summary import ArmResult, Shown, score, summarise
from tunemill.exporting.settings import ExportSettings
from tunemill.home import PROJECT, Home
from tunemill.quality.settings import ValidateSettings
from tunemill.rows import write_lines
from tunemill.segments import read
from tunemill.sources.closed import Closed
from tunemill.sources.settings import IngestSettings
from tunemill.splits import SplitSettings
from tunemill.store import Store

Fill = Callable[[Path], object]
EVALUATED = EvaluateSettings(metrics=("exact_match",), resamples=1000)


class Chain(NamedTuple):
    """What lies in the state folder, and where its sources lie."""

    home: Home
    store: Store
    letters: Path
    splits: Splits
    adapters: tuple[Adapter, Adapter]
    """Both trained on the split; only the first was exported."""
    exported: Exported
    verification: Verification
    decision: Decision
    run: str


def letter(number: int) -> dict[str, str]:
    """Write a question and an answer that no other number's are like."""
    asked, told = (hashlib.sha256(f"{word} {number}".encode()).hexdigest() for word in ("asked", "told"))
    return {"prompt": f"Where is {asked}?", "completion": f"It is {told}."}


def letters() -> bytes:
    first, second = letter(1), letter(2)
    near = {**second, "completion": second["completion"] + " Bye!"}
    dirty = {**second, "completion": second["completion"] + "  "}
    short = {**letter(4), "completion": "No."}
    lines = [orjson.dumps(line) for line in (first, dirty, short, first, near, *(letter(n) for n in range(7, 67)))]
    return b"\n".join([*lines[:2], b'{"prompt": "cut', *lines[2:]]) + b"\n"


def chats() -> bytes:
    turns = [
        [{"role": "user", "content": n["prompt"]}, {"role": "assistant", "content": n["completion"]}] for n in CHATS
    ]
    return orjson.dumps([{"messages": messages} for messages in turns])


CHATS = [letter(number) for number in (101, 102, 103)]


def put(
    store: Store, kind: type[Artifact], fill: Fill, section: dict[str, Any] | None = None, **origins: Artifact
) -> Any:
    """Seal what `fill` writes as the artifact of a stage that was given `origins`."""
    inputs = {name: origin.digest for name, origin in origins.items()}
    parts = {"stage": kind.stage, "version": 1, "inputs": inputs, "section": {"settings": section or {}}}
    with store.work(kind.stage, digest_of(parts)) as work:
        fill(work.folder)
        work.seal(kind, failed=0)
        return store.commit(work, kind, parts, {name: f"{o.stage}/{o.key}" for name, o in origins.items()})


def adapter(seed: int) -> Fill:
    def fill(folder: Path) -> None:
        small.adapter(folder)
        (folder / "training.json").write_text(f'{{"seed": {seed}}}')

    return fill


def evaluation(test: Path) -> Fill:
    """Score three arms on the test rows by the real metrics: base right nowhere, few-shot once, tuned everywhere."""

    def fill(folder: Path) -> None:
        rows, results = read(test), dict[Arm, ArmResult]()
        arms: tuple[tuple[Arm, int], ...] = (("base", 0), ("few_shot", 1), ("tuned", len(rows)))
        for arm, right in arms:
            texts = [row.answer if place < right else "wrong" for place, row in enumerate(rows)]
            results[arm] = ArmResult([Answer(text, 20, 3, True) for text in texts], [Likelihood(4.0, 4) for _ in rows])
        scores = [one for arm, result in results.items() for one in score(rows, arm, result, 49_152, EVALUATED)]
        write_lines(folder / "scores.jsonl", scores)
        summary = summarise(scores, results, Shown(1, 0, ["a"]), EVALUATED)
        (folder / "summary.json").write_bytes(msgspec.json.encode(summary))

    return fill


def verification(test: Path) -> Fill:
    """Say of the one GGUF that it answers as the tuned arm."""
    ids = [row.row_id for row in read(test)]
    file = ShippedFile("q8_0", "q8_0", {"exact_match": dict.fromkeys(ids, 1.0)})
    told = msgspec.json.encode(Verified(passed=True, failed=(), rows=tuple(ids), files=(file,)))
    return lambda folder: (folder / "verification.json").write_bytes(told)


def prepared(store: Store, folder: Path, words: Tokenizer) -> Splits:
    """Run the data stages; ingest twice, by settings that read the same rows."""
    (folder / "copy").mkdir()
    for name, data in (("letters.jsonl", letters()), ("copy/letters.jsonl", letters()), ("chats.json", chats())):
        (folder / name).write_bytes(data)
    asked = [str(folder / "copy" / "*"), str(folder / "letters.jsonl"), str(folder / "chats.json")]
    for allowed in (0.5, 0.4):
        settings = IngestSettings(files=asked, max_rejected=allowed, closed=Closed(seconds=0))
        raw = ingest.run(store, closed_files(settings), settings)
    valid = validate.run(store, raw, words, ValidateSettings(min_rows=1, max_rejected=0.5))
    clean = deduplicate.run(store, valid, None, DeduplicateSettings())
    return split.run(store, clean, None, BenchmarkFiles(files=()), SplitSettings(train=0.5, validation=0.2, test=0.3))


def recorded(config: PipelineConfig, store: Store, of: Sequence[Artifact], gate: str | None) -> str:
    """Write the record of a run that came to these artifacts, and to version 7 where it was judged."""
    with pipeline_run(config) as run:
        for artifact in of:
            run.ended(StageRecord.of(artifact, False, 1.0))
        run.verdict, run.gate, run.mlflow_run = "better", gate, "f" * 32
        if gate:
            record = {"name": "promote", "key": of[-1].key, "digest": exported_in(of).digest, "counts": {"version": 7}}
            run.ended(StageRecord.model_validate({**record, "cached": False, "seconds": 1.0}))
    return run.id


def exported_in(of: Sequence[Artifact]) -> Artifact:
    return next(artifact for artifact in of if artifact.stage == "export")


@pytest.fixture(scope="session")
def made_chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("chain")
        patch.setenv("TUNEMILL_HOME", str(folder / "home"))
        home = Home.find()
        home.enter()
        store = Store(home.store)
        words, base = put(store, Tokenizer, small.tokenizer), put(store, BaseWeights, small.text("config.json"))
        splits = prepared(store, folder, words)
        test = store.open(splits) / "test"
        given: dict[str, Artifact] = {"base": base, "tokenizer": words, "splits": splits}
        first, second = (put(store, Adapter, adapter(n), {"seed": n}, **given) for n in (1, 2))
        scored = put(store, Evaluation, evaluation(test), EVALUATED.model_dump(mode="json"), **given, adapter=first)
        merged = put(store, Merged, small.checkpoint, base=base, adapter=first)
        quantized = put(store, Quantized, small.quantized, merged=merged)
        exported = export.run(store, small.PACKAGED, words, first, merged, quantized, scored, ExportSettings())
        proof = put(store, Verification, verification(test), exported=exported, evaluation=scored)
        decision = gate.run(store, scored, proof, GateSettings())
        config = load(PROJECT / "pipeline_configs" / "quickstart.yaml").model_copy(
            update={"evaluate": EVALUATED, "gate": GateSettings()}
        )
        run = recorded(config, store, (splits, first, scored, exported, proof, decision), "PROMOTE")
    return Chain(home, store, folder / "letters.jsonl", splits, (first, second), exported, proof, decision, run)


@pytest.fixture
def chain(made_chain: Chain, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """Give the chain, in the home that `Home.find()` finds; for reading only."""
    monkeypatch.setenv("TUNEMILL_HOME", str(made_chain.home.root))
    return made_chain


@pytest.fixture
def copied(chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Give a copy of the chain's state that may be changed, as the home that `Home.find()` finds."""
    shutil.copytree(chain.home.root, tmp_path / "home")
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    return Home.find()
