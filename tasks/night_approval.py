"""Night approval: ask a person whether a night's version becomes champion, and do what is answered.

Where a worker runs the night, its flow run suspends: the process ends, its slot is free, and the form waits in Prefect
until it is answered or expires. Without a worker the version waits for `tunemill promote`. No other way leads from a
verdict to a promotion.
"""

import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from tasks.night import write
from tasks.night_flow import deployed_run
from tasks.page import inlined
from tasks.run import Run
from tunemill import nights
from tunemill.errors import GateNotPassed
from tunemill.home import Home
from tunemill.nights import Answer, Night
from tunemill.registry import CHAMPION, Registry, Version

RULE = "rule"
"""Who rejects what nobody answered."""


class Approval(BaseModel):
    """What a person answers when a night asks to be promoted."""

    model_config = ConfigDict(extra="forbid")

    approve: bool = Field(
        description="On: the version becomes champion. Off: it is rejected; it stays in the registry."
    )
    name: Annotated[str, Field(min_length=1, max_length=100)] = Field(description="Who decides.")
    reason: Annotated[str, Field(min_length=1, max_length=1000)] = Field(
        description="Why; both stand on the version's page."
    )


def now() -> datetime.datetime:
    """Give the time, with its zone."""
    return datetime.datetime.now(datetime.UTC)


def ask(night: Night, summary: dict[str, Any], hours: float) -> Night:
    """Ask for what the gate lets pass, and do what was answered; a worker's run ends here until it is.

    Raises:
        GateNotPassed: somebody else moved the champion since the night began; it is written down as overtaken.
    """
    if night.verdict != "PROMOTE" or (night.approval and night.approval.state != "waiting"):
        return night
    registry = Registry(Home.find())
    version = None
    with Run.current().unless_down("did not show the version that asks to be promoted"):
        version = registry.find(night.name, night.digest)
    if version is None:
        Run.current().warn(f"{night.title} is not registered, so nobody can be asked; run the night again for it")
        return night
    if night.approval is None:
        until = now() + datetime.timedelta(hours=hours)
        asked = {"approval": Answer(state="waiting", until=until), "flow_run": deployed_run()}
        night = write(night.model_copy(update=asked))
    if not night.flow_run:
        return night
    return answered(night, registry, version, _form(night, version, summary))


def answered(night: Night, registry: Registry, version: Version, said: Approval) -> Night:
    """Promote or reject the version as a person said, and write it down.

    Raises:
        GateNotPassed: the champion is no longer the one that this night was measured beside.
    """
    if not said.approve:
        registry.reject(version, said.name, said.reason)
        return _settled(night, "rejected", said.name, said.reason)
    in_use = registry.holder(night.name, CHAMPION)
    try:
        if in_use != version.number:
            registry.crown(version, night.champion.version if night.champion else None, said.name, said.reason)
    except GateNotPassed as error:
        _settled(night, "overtaken", said.name, f"{said.reason}\n{error}")
        raise
    return _settled(night, "approved", said.name, said.reason)


def followed_up(night: Night, at: datetime.datetime, flow_run: str | None) -> Night:
    """Look at a night whose question is open: promoted by hand meanwhile, expired, or still waiting."""
    if night.approval is None or night.approval.state != "waiting" or (flow_run and night.flow_run == flow_run):
        return night
    registry = Registry(Home.find())
    version = registry.find(night.name, night.digest)
    if version and CHAMPION in version.aliases:
        tags = version.tags
        by, reason = tags.get("tunemill.promoted_by", ""), tags.get("tunemill.reason", "")
        return _settled(night, "approved", by, reason)
    if nights.expired(night, at):
        reason = f"nobody answered until {night.approval.until:%Y-%m-%d %H:%M} UTC"
        if version:
            registry.reject(version, RULE, reason)
        return _settled(night, "expired", RULE, reason)
    where = f"in flow run {night.flow_run}" if night.flow_run else "by tunemill promote"
    Run.current().warn(f"{night.title} waits for an answer {where} until {night.approval.until:%Y-%m-%d %H:%M} UTC")
    return night


def _settled(night: Night, state: Any, by: str, reason: str) -> Night:
    assert night.approval is not None, "only what was asked is answered"
    facts = {"state": state, "by": by, "reason": reason, "at": now()}
    return write(night.model_copy(update={"approval": night.approval.model_copy(update=facts)}))


def _form(night: Night, version: Version, summary: dict[str, Any]) -> Approval:
    """Suspend this flow run until the form is answered; resumed, give the answer."""
    from prefect.flow_runs import suspend_flow_run
    from prefect.input import RunInput

    assert night.approval is not None, "the question is written down before it is asked"
    form: Any = RunInput.subclass_from_base_model_type(Approval)
    left = max(1, int((night.approval.until - now()).total_seconds()))
    asked = form.with_initial_data(description=_question(night, version, summary))
    said = suspend_flow_run(wait_for_input=asked, timeout=left, key="approval")
    return Approval.model_validate(said.model_dump())


def _question(night: Night, version: Version, summary: dict[str, Any]) -> str:
    """Write what a person needs to decide, as markdown: what would change, the verdict, the whole report."""
    assert night.approval is not None, "the question is written down before it is asked"
    instead = f"in place of version {night.champion.version}" if night.champion else "where no version is"
    head = (
        f"**{version}** would become champion {instead}. {night.title.capitalize()}: {len(night.new):,} new files, "
        f"{len(night.files):,} in all. Unanswered, it is rejected at {night.approval.until:%Y-%m-%d %H:%M} UTC."
    )
    told = [f"It is {night.beside['sentence']}."] if night.beside else []
    return "\n\n".join([head, *told, summary["text"], inlined(Path(summary["report"]))])
