"""Judge: recompute the verdict of a run from its stored rows, by its own rules or by others; no model is loaded."""

from collections.abc import Sequence
from typing import Any

import msgspec
from pydantic import ValidationError

from tasks.gate import decide, evaluated_with
from tasks.killed import records
from tunemill.config import PipelineConfig, explain, override
from tunemill.errors import ConfigError
from tunemill.evaluation import gate, gate_settings
from tunemill.evaluation.gate_settings import GateSettings
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.home import Home
from tunemill.store import Manifest, Store


def judged(run: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Give the verdict as gate.json holds it.

    Args:
        run: id of a pipeline run, its first characters, or `last`.
        overrides: rules to judge by in place of the run's own, each as `gate.rules=[…]`.

    Raises:
        ConfigError: there is no such run, it came to no verification, or a rule is not valid.
    """
    home = Home.find()
    store, record = Store(home.store), _record(home, run)
    stages = {stage["name"]: stage["key"] for stage in record["stages"]}
    if "verify" not in stages:
        why = (record["error"] or f"it is {record['state']}").partition("\n")[0]
        raise ConfigError(
            f"gate: run {record['id']} did not come to verify, so there is nothing to judge ({why})\n"
            "  Run its configuration again; what it made is held."
        )
    evaluation, verification = (_checked(store, name, stages[name]) for name in ("evaluate", "verify"))
    settings = _settings(record, overrides, evaluated_with(evaluation))
    evaluated, verified = store.folder("evaluate", evaluation.key), store.folder("verify", verification.key)
    found: dict[str, Any] = msgspec.to_builtins(decide(evaluated, verified, settings, evaluated_with(evaluation)))
    return found


def text_of(verdict: dict[str, Any]) -> str:
    """Give the verdict as a person reads it."""
    return gate.text(msgspec.convert(verdict, gate.GateVerdict)).rstrip()


def _record(home: Home, run: str) -> dict[str, Any]:
    every = [record for _, record in records(home)]
    found = every[:1] if run == "last" else [record for record in every if record["id"].startswith(run)]
    found = [record for record in found if record["id"] == run] or found
    if len(found) == 1:
        return found[0]
    newest = ", ".join(record["id"] for record in every[:3]) or "none yet"
    which = (
        f"{len(found):,} runs in {home.runs} have an id that begins with {run!r}" if every else f"no run in {home.runs}"
    )
    raise ConfigError(f"gate: {which}; the newest are {newest} (`last` names the newest)")


def _settings(record: dict[str, Any], overrides: Sequence[str], asked: EvaluateSettings) -> GateSettings:
    """Give the rules of a run, or those that are set in their place; nothing else can be set on rows that are stored.

    Raises:
        ConfigError: every fault at once.
    """
    values = record["config"]
    faults = [
        f"{text}: only `gate` can be set here; what else the run was asked for is in its rows"
        for text in overrides
        if "=" in text and not text.startswith(("gate.", "gate="))
    ]
    faults += [message for _, message in override(values, {}, overrides)]
    try:
        settings = PipelineConfig.model_validate(values).gate
    except ValidationError as error:
        found = explain(error)
        faults += [message for place, message in found if place[:1] == ("gate",)] or [
            f"run {record['id']} was made with settings that this version does not know: {found[0][1]}; run it again"
        ]
    else:
        faults += [message for _, message in gate_settings.check(settings, asked)]
    if faults:
        raise ConfigError("\n".join(f"{'--set' if overrides else 'gate:'}  {message}" for message in faults))
    return settings


def _checked(store: Store, stage: str, key: str) -> Manifest:
    manifest = store.check(stage, key)
    if manifest is None:
        raise ConfigError(f"{store.folder(stage, key)} is no longer there; run the pipeline again to make it")
    return manifest
