"""Move the champion by hand: put a version in use, or the one before it back, with a name and a reason."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tunemill import tracking
from tunemill.errors import ConfigError, GateNotPassed, TunemillError
from tunemill.home import Home
from tunemill.registry import CHAMPION, Registry, Version
from tunemill.tracking import RUN_TAG


def promote_by_hand(key: str, by: str, reason: str) -> dict[str, Any]:
    """Make the version that belongs to a key the champion, whoever is it now; JSON-ready.

    Args:
        key: the first digits (6 or more) of a key that the version was made from or of its run, or NAME/NUMBER.

    Raises:
        ConfigError: no version or more than one belongs to the key.
        GateNotPassed: the gate says REJECT or INVALID, or somebody else moved the champion meanwhile.
    """
    with _answered() as registry:
        return _promoted(registry, _wanted(registry, key), by, reason)


def rollback(name: str, by: str, reason: str) -> dict[str, Any]:
    """Give `champion` back to the version that had it before; JSON-ready.

    Raises:
        ConfigError: the name is not known, or there is no champion to go back to.
    """
    with _answered() as registry:
        version, before = registry.rollback(name, by, reason)
        return _result(registry, version, before, True)


def _promoted(registry: Registry, version: Version, by: str, reason: str) -> dict[str, Any]:
    if version.verdict not in ("PROMOTE", "CANNOT_TELL"):
        raise GateNotPassed(
            f"{version}: the gate says {version.verdict or 'nothing'}, so it does not become champion.\n"
            "  Its page says why. To decide by other rules change `gate:` in the configuration and run it again:\n"
            "  only gate and promote are made anew."
        )
    before = registry.holder(version.name, CHAMPION)
    if moved := before != version.number:
        registry.crown(version, before, by, reason)
    return _result(registry, version, before, moved)


def shown(result: dict[str, Any]) -> str:
    """Say in two lines what `promote_by_hand` or `rollback` did."""
    before = f"version {result['before']}" if result["before"] else "no version"
    what = f"in place of {before}" if result["moved"] else "already; nothing was changed"
    return f"{result['name']} version {result['version']} is champion {what}\n  {result['page']}"


@contextlib.contextmanager
def _answered() -> Iterator[Registry]:
    """Give the registry, and say in a sentence that MLflow did not do what it was asked inside the block."""
    from mlflow.exceptions import MlflowException

    home = Home.find()
    try:
        yield Registry(home)
    except MlflowException as error:
        raise TunemillError(
            f"MLflow at {tracking.address(home)} did not do it ({tracking.reason(error)}).\n"
            "  Look whether it is up, then run the command again; what was done halfway is finished then."
        ) from error


def _wanted(registry: Registry, key: str) -> Version:
    name, _, number = key.rpartition("/")
    if name and number.isdecimal():
        found = [version for version in registry.versions(name) if version.number == int(number)]
    else:
        every = [version for name in registry.names() for version in registry.versions(name)]
        found = [version for version in every if len(key) >= 6 and _belongs(version, key)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(f"{version.name}/{version.number} ({version.verdict})" for version in found)
        raise ConfigError(
            f"{len(found)} versions were made from {key}: {names}; say which: tunemill promote NAME/NUMBER"
        )
    raise ConfigError(
        f"no version in {tracking.address(registry.home)} belongs to {key!r}; give 6 digits or more of a key of its "
        "run (`tunemill show` and the end of `tunemill run` name them) or NAME/NUMBER"
    )


def _belongs(version: Version, key: str) -> bool:
    return any(own.startswith(key) for own in [*version.keys, version.digest, version.tags.get(RUN_TAG, "")])


def _result(registry: Registry, version: Version, before: int | None, moved: bool) -> dict[str, Any]:
    uri = tracking.address(registry.home)
    page = f"{uri}/#/models/{version.name}/versions/{version.number}" if uri.startswith("http") else uri
    return {
        "name": version.name,
        "version": version.number,
        "verdict": version.verdict,
        "digest": version.digest,
        "before": before,
        "moved": moved,
        "page": page,
    }
