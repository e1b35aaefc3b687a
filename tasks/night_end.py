"""Night end: settle what earlier nights left open, and say what became of this one."""

import datetime
from typing import Any

from tasks.night import found, records
from tasks.night_approval import followed_up, now
from tasks.night_hand_over import hand_over
from tasks.run import Run
from tunemill import nights
from tunemill.config import PipelineConfig
from tunemill.home import Home
from tunemill.nights import Night

SHOWN = {"name", "date", "state", "reason", "new_rows", "verdict", "approval", "handed_over", "keys"}
"""Fields of a record that whoever started the night is told."""


def follow_up(config: PipelineConfig, flow_run: str | None) -> None:
    """Expire, remind of, or hand over what earlier nights left open; MLflow being down leaves it open once more."""
    for night in records(config.name):
        with Run.current().unless_down("did not say what became of an earlier night"):
            hand_over(followed_up(night, now(), flow_run), config.nightly.hand_over)


def stands(night: Night, flow_run: str | None, asked: bool) -> bool:
    """Say whether there is nothing to do: skipped, or judged already and neither asked for by its date nor resumed."""
    if night.state == "skipped" or nights.waits_elsewhere(night, flow_run):
        return True
    return night.state == "judged" and not asked and night.flow_run != flow_run


def dry(config: PipelineConfig, date: datetime.date | None) -> dict[str, Any]:
    """Say what the night of a date would take; nothing is written but digests of files that were read."""
    Home.find().enter()
    today = nights.date_of(now())
    return concluded(found(config, date or today, today))


def concluded(night: Night, summary: dict[str, Any] | None = None) -> dict[str, Any]:
    """Give what the flow returns and `tunemill night` prints; `run` is the summary of the pipeline run, if it ran."""
    told = night.model_dump(mode="json", include=SHOWN)
    files = {"files": len(night.files), "new_files": len(night.new)}
    return {**told, **files, "next": next_step(night), "run": summary}


def next_step(night: Night) -> str:
    """Say what a person does next; empty where there is nothing to do."""
    if night.approval is None or night.approval.state != "waiting":
        return ""
    if night.flow_run:
        return f"answer the form of flow run {night.flow_run}"
    key = night.keys["export"][:12]
    return f"tunemill promote {key} --by NAME --reason TEXT, then tunemill night again: it hands the champion over"


def shown(told: dict[str, Any]) -> str:
    """Say in a few lines what a night took or would take, and what became of it."""
    lines = [f"night {told['date']} of {told['name']}: {told['state']}"]
    if told["reason"]:
        lines.append(f"  {told['reason']}")
    if told["files"]:
        lines.append(f"  {told['new_files']:,} new of {told['files']:,} files, at least {told['new_rows']:,} new rows")
    if told["verdict"]:
        lines.append(f"  the gate says {told['verdict']}")
    if answer := told["approval"]:
        by = f" by {answer['by']}: {answer['reason']}" if answer["by"] else f" for an answer until {answer['until']}"
        lines.append(f"  {answer['state']}{by}")
    if told["handed_over"]:
        lines.append(f"  handed over by {' and '.join(told['handed_over'])}")
    if told["next"]:
        lines.append(f"  next: {told['next']}")
    return "\n".join(lines)
