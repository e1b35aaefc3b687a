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
from tunemill.home import Home
from tunemill.store import Manifest, Store


def judged(run: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Give the verdict as gate.json holds it.

    Args:
        run: id of a pipeline run, or its first characters.
        overrides: settings to change, each as `gate.rules=[…]`.

    Raises:
        ConfigError: there is no such run, it came to no verification, or a rule is not valid.
    """
    home = Home.find()
    store, record = Store(home.store), _record(home, run)
    settings = _settings(record["config"], overrides)
    stages = {stage["name"]: stage["key"] for stage in record["stages"]}
    if "verify" not in stages:
        raise ConfigError(
            f"run {record['id']} ended before verify ({record['error'] or record['state']}); run it again"
        )
    evaluation, verification = (_checked(store, name, stages[name]) for name in ("evaluate", "verify"))
    evaluated, verified = store.folder("evaluate", evaluation.key), store.folder("verify", verification.key)
    verdict = decide(evaluated, verified, settings.gate, evaluated_with(evaluation))
    found: dict[str, Any] = msgspec.to_builtins(verdict)
    return found


def text_of(verdict: dict[str, Any]) -> str:
    """Give the verdict as a person reads it."""
    return gate.text(msgspec.convert(verdict, gate.GateVerdict))


def _record(home: Home, run: str) -> dict[str, Any]:
    found = [record for _, record in records(home) if record["id"].startswith(run)]
    if len(found) != 1:
        newest = ", ".join(record["id"] for _, record in list(records(home))[:3]) or "none yet"
        raise ConfigError(f"{len(found)} runs have an id that begins with {run!r}; the newest are {newest}")
    return found[0]


def _settings(values: dict[str, Any], overrides: Sequence[str]) -> PipelineConfig:
    faults = override(values, {}, overrides)
    try:
        settings = PipelineConfig.model_validate(values)
    except ValidationError as error:
        faults += explain(error)
    else:
        faults += gate_settings.check(settings.gate, settings.evaluate)
    if faults:
        raise ConfigError("\n".join(f"--set  {message}" for _, message in faults))
    return settings


def _checked(store: Store, stage: str, key: str) -> Manifest:
    manifest = store.check(stage, key)
    if manifest is None:
        raise ConfigError(f"{store.folder(stage, key)} is no longer there; run the pipeline again to make it")
    return manifest
