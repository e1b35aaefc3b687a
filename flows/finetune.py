"""Fine-tune: raw files in, verified files with their verdict out. The main job."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.prepare import prepare
from flows.release import release
from flows.tune import tune
from tasks.conclude import conclude
from tasks.gate import gate
from tasks.prefect_log import logged
from tasks.promote import promote
from tasks.publish import publish
from tasks.run import pipeline_run
from tunemill.config import load
from tunemill.home import PROJECT


@flow
def finetune(config: str = "pipeline_configs/quickstart.yaml", overrides: list[str] | None = None) -> dict[str, Any]:
    """Run one configuration from its raw files to files that are verified, judged and registered.

    Args:
        config: a YAML file, relative to the project.
        overrides: settings to change, each as `section.setting=value`.
    """
    with logged(), pipeline_run(load(PROJECT / Path(config), overrides or ()), config) as run:
        splits = prepare(run.settings)
        adapter, evaluation = tune(run.settings, splits)
        publish(evaluation)
        files, proof = release(run.settings, splits, adapter, evaluation)
        decision = gate(evaluation, proof, run.settings.gate)
        promote(files, decision, run.settings.promote)
        return conclude(files, proof, decision)
