"""Tell files that are closed from files that may still be written, so that half a night's log is never read.

A file that the configuration names by its own path is taken as it is: who names it knows that it is whole.
"""

import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from tunemill.section import Section


class Closed(Section):
    """Which of the files that folders and globs give are read; the others are passed over with a warning each."""

    seconds: Annotated[float, Field(ge=0, le=7 * 86_400)] = 5
    """Time for which a file has not been changed; 0 takes a file that was changed just now."""
    names: Annotated[str, StringConstraints(min_length=1)] | None = None
    """Glob that the name of a rotated file matches, such as `*.jsonl.[0-9]*` or `*-????-??-??.jsonl`."""
    marker: Annotated[str, StringConstraints(pattern=r"^[^/]+$")] | None = None
    """Ending of an empty file beside each closed one: `.done` asks for `a.jsonl.done` beside `a.jsonl`."""


def still_open(paths: Iterable[Path], files: Iterable[str], root: Path, rule: Closed, now: float) -> dict[Path, str]:
    """Give the files that are not closed, each with why, at the time `now` in seconds since 1970."""
    named = {(root / name).resolve() for name in files}
    found = {path: _why(path, rule, now) for path in paths if path not in named}
    return {path: why for path, why in found.items() if why}


def _why(path: Path, rule: Closed, now: float) -> str:
    if rule.names and not fnmatch.fnmatchcase(path.name, rule.names):
        return f"its name does not match `{rule.names}`, ingest.closed.names"
    if rule.marker and not path.with_name(path.name + rule.marker).exists():
        return f"there is no {path.name}{rule.marker} beside it, ingest.closed.marker"
    age = abs(now - path.stat().st_mtime)  # a clock that runs ahead by an hour must not keep a file back for an hour
    if age < rule.seconds:
        return f"it was changed {age:.1f} s ago, less than the {rule.seconds:g} s of ingest.closed.seconds"
    return ""
