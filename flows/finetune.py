"""Fine-tune: raw files in, verified files with their verdict out. The main job."""

from datetime import date
from pathlib import Path
from typing import Any

from prefect import flow

from flows.pool import release_in_pool, tune_in_pool
from flows.prepare import prepare
from flows.release import release
from flows.tune import tune
from tasks.conclude import conclude
from tasks.form import Change, Configuration, run_name
from tasks.gate import gate
from tasks.prefect_log import logged
from tasks.promote import promote
from tasks.publish import publish
from tasks.run import pipeline_run
from tunemill.config import PipelineConfig, load
from tunemill.home import PROJECT


@flow(flow_run_name=run_name)
def finetune(
    config: Configuration = "pipeline_configs/quickstart.yaml",
    change: Change = Change(),  # noqa: B008 (frozen)
    overrides: list[str] | None = None,
    pool: bool = False,
) -> dict[str, Any]:
    """Run one configuration from its raw files to files that are verified, judged and registered.

    Args:
        config: a YAML file, relative to the project.
        change: the settings that are changed most, for this run alone.
        overrides: any other settings to change, each as `section.setting=value`.
        pool: train and release on a worker of the GPU pool; otherwise here.
    """
    asked = [*(change.overrides()), *(overrides or ())]
    return finetuned(load(PROJECT / Path(config), asked), config, pool)


def finetuned(settings: PipelineConfig, named: str, pool: bool, night: date | None = None) -> dict[str, Any]:
    """Go from raw files to a verdict, from those that are closed now or those that a night has taken."""
    with logged(), pipeline_run(settings, named) as run:
        tuned, released = (tune_in_pool, release_in_pool) if pool else (tune, release)
        splits = prepare(run.settings, night)
        adapter, evaluation = tuned(run.settings, splits)
        publish(evaluation)
        files, proof = released(run.settings, splits, adapter, evaluation)
        decision = gate(evaluation, proof, run.settings.gate)
        promote(files, decision, run.settings.promote)
        return conclude(files, proof, decision)
