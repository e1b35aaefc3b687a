"""A real MLflow on SQLite, whose tables are made once a session, and a store that holds a whole small pipeline."""

import hashlib
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from tasks.ingest import ingest, remember
from tasks.publish import lineage, publish
from tasks.run import Run, StageRecord, pipeline_run
from tasks.split import split
from tasks.train import Watch
from tunemill.artifacts import (
    Adapter,
    Artifact,
    BaseWeights,
    BenchmarkFiles,
    CleanDataset,
    Evaluation,
    RawDataset,
    SourceFile,
    SourceFiles,
    Tokenizer,
    ValidDataset,
    digest_of,
)
from tunemill.config import PipelineConfig, load
from tunemill.evaluation.arms import Arm
from tunemill.evaluation.generation import Answer, Likelihood
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.summary import ArmResult, Shown, score, summarise
from tunemill.files import hash_file
from tunemill.home import PROJECT, Home
from tunemill.segments import read
from tunemill.sources.settings import IngestSettings
from tunemill.splits import SplitSettings
from tunemill.store import Store
from tunemill.training.settings import TrainSettings

KINDS: dict[str, type[Artifact]] = {kind.stage: kind for kind in Artifact.__subclasses__()}


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an MLflow database without a run; to make its tables takes 13 s."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Give a state folder of its own, which `Home.find()` finds."""
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home = Home.find()
    home.enter()
    return home


@pytest.fixture
def home(empty_home: Home, database: Path) -> Home:
    """Give a state folder with an MLflow database of its own."""
    shutil.copyfile(database, empty_home.root / "mlflow.db")
    return empty_home


@pytest.fixture
def client(home: Home) -> Any:
    """Give MLflow's own client for what was told."""
    from mlflow import MlflowClient

    return MlflowClient(home.tracking_uri)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Give a port of this machine where nobody listens; it is bound, so that nobody can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def settings() -> PipelineConfig:
    return load(PROJECT / "pipeline_configs" / "quickstart.yaml")


def sealed(
    store: Store, kind: type[Artifact], files: dict[str, bytes], origins: dict[str, Artifact], **parts: Any
) -> Any:
    """Seal files as the artifact of a stage, through the store as a stage does."""
    key = digest_of([kind.stage, {name: origin.digest for name, origin in origins.items()}, parts])
    with store.work(kind.stage, key) as work:
        for name, data in files.items():
            (work.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (work.folder / name).write_bytes(data)
        work.seal(kind, files=len(files))
        made_from = {name: f"{origin.stage}/{origin.key}" for name, origin in origins.items()}
        return store.commit(work, kind, {"stage": kind.stage, **parts}, made_from)


def events(loss: float = 2.0) -> bytes:
    """Write what a training of three steps reports, with step 3 done twice since it went on from a checkpoint."""
    found: list[dict[str, Any]] = [{"event": "start", "at": 1.0, "steps": 3}]
    for step, value in ((1, loss), (2, loss / 2), (3, 9.0), (3, loss / 4)):
        found.append({"event": "step", "at": 1.0 + step, "step": step, "loss": value, "learning_rate": 1e-4})
    found.append({"event": "evaluation", "at": 5.0, "step": 3, "loss": loss / 5})
    return b"".join(orjson.dumps(event) + b"\n" for event in found)


def summary(rows: Path) -> bytes:
    """Score three arms on the test rows by the real metrics: base right nowhere, few-shot once, tuned everywhere."""
    asked, test = EvaluateSettings(metrics=("exact_match", "perplexity"), resamples=1000), read(rows)
    results: dict[Arm, ArmResult] = {}
    for arm, right in (("base", 0), ("few_shot", 1), ("tuned", len(test))):
        texts = [row.answer if place < right else "wrong" for place, row in enumerate(test)]
        answers = [Answer(text, 20, 3, True) for text in texts]
        results[arm] = ArmResult(answers, [Likelihood(4.0, 4) for _ in test])  # type: ignore[index]
    scores = [one for arm, result in results.items() for one in score(test, arm, result, 49_152, asked)]
    return msgspec.json.encode(summarise(scores, results, Shown(1, 0, ["a"]), asked))


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Seal all eight stages once: ingest and split by their own code, the others as they put out."""
    home = Home(tmp_path_factory.mktemp("pipeline"))
    store, file = Store(home.store), home.root / "letters.jsonl"
    words = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(40)]
    lines = [{"prompt": f"Where is {word}?", "completion": f"It is {word[:8]}."} for word in words]
    file.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    source = SourceFile(sha256=hash_file(file), path=str(file))
    remember([source], home.root / "sources.jsonl")
    raw: RawDataset = ingest.run(store, SourceFiles(files=(source,)), IngestSettings(files=[str(file)]))
    table = (store.open(raw) / "rows" / f"{source.sha256}.parquet").read_bytes()
    report = {
        "report/report.md": b"# rows",
        "report/data_docs/index.html": b"<html>",
        f"rows/{source.sha256}.parquet": table,
    }
    tokens = sealed(store, Tokenizer, {"tokenizer.json": b"{}"}, {})
    base = sealed(store, BaseWeights, {"model.safetensors": b"weights"}, {})
    valid = sealed(store, ValidDataset, report, {"raw": raw, "tokenizer": tokens})
    clean = sealed(store, CleanDataset, {"rows/0000.parquet": table}, {"valid": valid})
    splits = split.run(store, clean, None, BenchmarkFiles(files=()), SplitSettings(train=0.5, validation=0.2, test=0.3))
    adapter = {"adapter/adapter_model.safetensors": b"low rank", "adapter/adapter_config.json": b"{}"}
    adapter |= {"training.json": b"{}", "report/events.jsonl": events(), "report/loss.png": b"picture"}
    asked = {"settings": TrainSettings().model_dump(mode="json")}
    trained = sealed(store, Adapter, adapter, {"base": base, "tokenizer": tokens, "splits": splits}, section=asked)
    scored = {"summary.json": summary(store.open(splits) / "test"), "report/report.md": b"# better"}
    origins = {"base": base, "tokenizer": tokens, "splits": splits, "adapter": trained}
    sealed(store, Evaluation, scored, origins)
    return home


@pytest.fixture
def store(empty_home: Home, pipeline: Home) -> Store:
    """Give a store of its own that holds the whole small pipeline."""
    shutil.copytree(pipeline.root, empty_home.root, dirs_exist_ok=True)
    return Store(empty_home.store)


@pytest.fixture
def evaluation(store: Store) -> Evaluation:
    return store.manifests("evaluate")[0].artifact(Evaluation)


Go = Callable[..., Run]


@pytest.fixture
def go(settings: PipelineConfig, store: Store, evaluation: Evaluation) -> Go:
    """Run the end of a pipeline: its stages made or held, what training reports on its way, then publish."""

    def run_pipeline(cached: bool = False, train: bool = False) -> Run:
        with pipeline_run(settings, str(PROJECT / "pipeline_configs" / "quickstart.yaml")) as run:
            for stage, manifest in reversed(lineage(store, "evaluate", evaluation.key).items()):
                if stage == "train" and train:
                    with Watch() as watch:
                        for step in range(1, 401):
                            watch({"event": "step", "step": step, "steps": 400, "loss": 1 / step})
                run.ended(StageRecord.of(manifest.artifact(KINDS[stage]), cached, 1.0))
            publish(evaluation)
        return run

    return run_pipeline
