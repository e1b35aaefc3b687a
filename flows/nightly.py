"""Nightly: what is new → finetune → approval → promote → hand over. One logical run a date, whoever starts it."""

import datetime
from pathlib import Path
from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows.finetune import finetuned
from tasks.form import Change, Configuration
from tasks.night import alone, champion, judged, opened, settings_of
from tasks.night_approval import ask
from tasks.night_champion import against_champion
from tasks.night_end import concluded, follow_up, stands
from tasks.night_flow import date_of_run, deployed_run, night_name
from tasks.night_hand_over import hand_over
from tasks.prefect_log import logged
from tunemill.config import PipelineConfig, load
from tunemill.home import PROJECT

Date = Annotated[
    datetime.date | None,
    Field(title="Date", description="A past night is shown as it was; left empty, it is today's in UTC."),
]


@flow(flow_run_name=night_name)
def nightly(
    config: Configuration = "examples/nightly/nightly.yaml",
    date: Date = None,
    change: Change = Change(),  # noqa: B008 (frozen)
    overrides: list[str] | None = None,
    pool: bool = False,
) -> dict[str, Any]:
    """Retrain on everything that is new since the last finished night, and ask a person before it is promoted.

    Args:
        config: a YAML file, relative to the project.
        date: the night to run; one without a record must be the latest.
        change: the settings that are changed most, for this run alone.
        overrides: any other settings to change, each as `section.setting=value`.
        pool: train and release on a worker of the GPU pool; otherwise here.
    """
    settings = load(PROJECT / Path(config), [*change.overrides(), *(overrides or ())])
    today, own = date_of_run(), deployed_run()
    with logged(), alone(settings):
        follow_up(settings, own)
        night = opened(settings, date or today, today, own, champion(settings.name))
        if stands(night, own, asked=date is not None):
            return concluded(night)
        summary = one_night(settings_of(night, settings), config, night.date, pool)
        night = against_champion(judged(night, summary))
        night = ask(night, summary, settings.nightly.approval.hours)
        return concluded(hand_over(night, settings.nightly.hand_over), summary)


@flow(name="finetune night", flow_run_name="finetune {settings.name} {night}")
def one_night(settings: PipelineConfig, named: str, night: datetime.date, pool: bool) -> dict[str, Any]:
    """Go from the files of a night to a verdict; a night that is resumed or run again finds all of it held."""
    return finetuned(settings, named, pool, night)
