"""Where the GPU is: the two flows that a worker of the GPU pool runs, and how their parents ask for them.

A parent asks the store first and stands in a pool of its own, so it never waits for a child in a pool that it fills.
"""

from prefect import flow

from flows.release import release
from flows.tune import tune
from tasks.evaluate import evaluate
from tasks.export import export
from tasks.located import located_model
from tasks.merge import merge
from tasks.model import model, tokenizer
from tasks.pool import dispatch, part_of
from tasks.prefect_log import logged
from tasks.quantize import quantize
from tasks.train import train
from tasks.verify import verify
from tunemill.artifacts import Adapter, Evaluation, Exported, Splits, Verification
from tunemill.config import PipelineConfig
from tunemill.home import Home
from tunemill.store import Store


@flow(name="tune", flow_run_name="tune {settings.name}")
def tune_here(settings: PipelineConfig, run: str, splits: Splits) -> None:
    """Train and evaluate as part of a run whose parent finds the result in the store.

    Args:
        settings: the whole configuration of the parent.
        run: the parent's run, to which MLflow is told what happens here.
        splits: the sealed split.
    """
    with logged(), part_of(run, settings):
        tune.fn(settings, splits)


@flow(name="release", flow_run_name="release {settings.name}")
def release_here(settings: PipelineConfig, run: str, splits: Splits, adapter: Adapter, evaluation: Evaluation) -> None:
    """Merge, quantize, export and verify as part of a run whose parent finds the result in the store.

    Args:
        settings: the whole configuration of the parent.
        run: the parent's run, to which MLflow is told what happens here.
        splits: the sealed split.
        adapter: what was trained.
        evaluation: what was scored.
    """
    with logged(), part_of(run, settings):
        release.fn(settings, splits, adapter, evaluation)


def tune_in_pool(config: PipelineConfig, splits: Splits) -> tuple[Adapter, Evaluation]:
    """Tune, by a worker of the GPU pool where the store does not hold all of it."""
    store, source = Store.at(Home.find().store), located_model(config.model)
    words, base = tokenizer(source), model(source)
    adapter = train.held(store, base, words, splits, config.train)
    if adapter is None or evaluate.held(store, base, words, splits, adapter, config.evaluate) is None:
        dispatch("tune/gpu", splits=splits)
    return tune(config, splits)


def release_in_pool(
    config: PipelineConfig, splits: Splits, adapter: Adapter, evaluation: Evaluation
) -> tuple[Exported, Verification]:
    """Release, by a worker of the GPU pool where the store does not hold all of it."""
    if not _released(config, splits, adapter, evaluation):
        dispatch("release/gpu", splits=splits, adapter=adapter, evaluation=evaluation)
    return release(config, splits, adapter, evaluation)


def _released(config: PipelineConfig, splits: Splits, adapter: Adapter, evaluation: Evaluation) -> bool:
    """Say whether the store holds a release up to the proof that ended it."""
    store, source = Store.at(Home.find().store), located_model(config.model)
    words, base = tokenizer(source), model(source)
    if (merged := merge.held(store, base, words, adapter)) is None:
        return False
    for settings in config.quantize.tries():
        if (small := quantize.held(store, merged, settings)) is None:
            return False
        files = export.held(store, source, words, adapter, merged, small, evaluation, config.export)
        if files is None:
            return False
        given = base, words, splits, adapter, evaluation, merged, small, files
        if (proof := verify.held(store, *given, config.quantize, config.verify)) is None:
            return False
        if not proof.counts["failed"]:
            break
    return True
