"""Fine-tune: raw files in, a tuned and evaluated model out. The main job."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.prepare import prepare
from flows.tune import tune
from tasks.publish import publish
from tasks.run import pipeline_run
from tunemill.config import load
from tunemill.home import PROJECT


@flow
def finetune(config: str = "pipeline_configs/quickstart.yaml", overrides: list[str] | None = None) -> dict[str, Any]:
    """Run one configuration from its raw files to its verdict.

    Args:
        config: a YAML file, relative to the project.
        overrides: settings to change, each as `section.setting=value`.
    """
    with pipeline_run(load(PROJECT / Path(config), overrides or ()), config) as run:
        splits = prepare(run.settings)
        publish(tune(run.settings, splits))
        return run.summary()
