"""Night champion: hold a night's model against the one in use, from the rows that both evaluations stored.

A model that is shown to be worse asks nobody: it is rejected by rule. All else is told to the person who decides.
"""

from typing import Any

from tasks.gate import evaluated_with
from tasks.night import write
from tasks.night_approval import RULE, now
from tasks.run import Run
from tunemill import rows
from tunemill.artifacts import Evaluation
from tunemill.evaluation.beside import Beside, beside
from tunemill.evaluation.gate_evidence import read_scores
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.evaluation.summary import Score
from tunemill.home import Home
from tunemill.nights import Answer, Night
from tunemill.registry import MADE_FROM, Registry
from tunemill.store import Store

Scored = tuple[list[Score], EvaluateSettings]
ALIKE = ("system", "max_new_tokens", "fields")
"""Settings of an evaluation that must be the same, or the two models were not asked the same."""


def against_champion(night: Night) -> Night:
    """Compare what would be promoted with the champion that the night began beside, and reject what is worse."""
    if night.verdict != "PROMOTE" or night.champion is None or night.beside or night.champion.digest == night.digest:
        return night
    found = None
    with Run.current().unless_down("did not say from what the champion was made, so nothing is compared with it"):
        found = _compared(night, night.champion.version)
    if found is None:
        return night
    night = night.model_copy(update={"beside": {**found.model_dump(), "sentence": found.sentence}})
    if found.outcome == "worse":
        registry, at, reason = Registry(Home.find()), now(), f"it is {found.sentence}"
        if version := registry.find(night.name, night.digest):
            registry.reject(version, RULE, reason)
        answer = Answer(state="rejected", until=at, by=RULE, reason=reason, at=at)
        night = night.model_copy(update={"approval": answer})
    return write(night)


def _compared(night: Night, version: int) -> Beside | None:
    """Read both evaluations from the store; None where the champion's is not there or asked something else."""
    versions = {each.number: each for each in Registry(Home.find()).versions(night.name)}
    made_from: Any = (origin.split("/") for origin in versions[version].tags.get(MADE_FROM, "").split())
    champions = _scored(dict(made_from).get("evaluate", ""))
    tonights = _scored(night.keys["evaluate"])
    if champions is None or tonights is None:
        Run.current().warn(f"the evaluation of champion version {version} is not in this store; nothing is compared")
        return None
    unlike = [name for name in ALIKE if getattr(champions[1], name) != getattr(tonights[1], name)]
    if unlike:
        names = " and ".join(f"evaluate.{name}" for name in unlike)
        Run.current().warn(f"champion version {version} was scored with another {names}; nothing is compared")
        return None
    return beside(tonights[0], champions[0], version, tonights[1])


def _scored(key: str) -> Scored | None:
    store = Store.at(Home.find().store)
    if not key or (manifest := store.manifest(Evaluation.stage, key)) is None:
        return None
    folder = store.open(manifest.artifact(Evaluation))
    return read_scores(rows.read_lines(folder / "scores.jsonl")), evaluated_with(manifest)
