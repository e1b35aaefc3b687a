"""Replay, the files written: JSONL whose every record says where it came from, and a table of the same by digest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import orjson

from tasks.replay_mend import ORIGIN
from tunemill import rows
from tunemill.errors import ConfigError
from tunemill.files import hash_file, replace
from tunemill.home import Home
from tunemill.rows import Row
from tunemill.sources import strict_json

ENDING = ".replayed.jsonl"
Written = list[tuple[dict[str, Any], bytes]]
"""Origin and bytes of each record."""


class Outcome(msgspec.Struct):
    """What became of one line of the list."""

    line: int
    """Line of the list."""
    origin: str = ""
    """File and line that the record was rejected in, "" where the line of the list is no record."""
    state: str = "out"
    """`added`, `changed` (mended another way before), `held` (added before), `out` (still bad), or `unmended`."""
    reason: str = ""
    detail: str = ""
    """Why it stays out."""
    file: str = ""
    """File that it was written to."""


class Ready(msgspec.Struct):
    """A mended record on its way."""

    outcome: Outcome
    target: Path
    record: bytes
    alone: bool
    """Whether no other record begins in its line of the source: a second mend then takes the place of the first."""
    made: list[Row] = []


def origins() -> dict[tuple[str, int], tuple[str, int]]:
    """Give where replayed records came from: (digest, line) of the file written → those of the file they were in."""
    path = _table()
    lines = rows.read_lines(path) if path.exists() else ()
    return {(each["sha256"], each["line"]): (each["source"], each["source_line"]) for each in lines}


def written(target: Path) -> Written:
    """Read a file that replay wrote; empty where there is none.

    Raises:
        ConfigError: the file holds a line that replay did not write, or a run would not read it.
    """
    if target.suffix not in (".jsonl", ".ndjson"):
        raise ConfigError(f"replay: {target} would not be read as JSONL; let its name end with .jsonl")
    found: Written = []
    for number, raw in enumerate(target.read_bytes().splitlines() if target.exists() else (), 1):
        fields = strict_json.parse(raw)
        if not isinstance(fields, dict) or ORIGIN not in fields:
            raise ConfigError(
                f"{target}:{number}  replay did not write this line; nothing was written\n"
                "  Name a file for replay alone: --into FILE.jsonl"
            )
        found.append((fields[ORIGIN], raw))
    return found


def write(target: Path, before: Written, ready: Sequence[Ready]) -> None:
    """Add records to those that stand in a file, and all of them to the table; a reader sees the old file or the new.

    A record that stands there already is left; one of the same origin gives way to the newer mend.
    """
    held = list(before)
    for each in ready:
        each.outcome.file, origin = str(target), orjson.loads(each.record)[ORIGIN]
        same = [place for place, (known, _) in enumerate(held) if known == origin]
        if any(held[place][1] == each.record for place in same):
            each.outcome.state = "held"
        elif same and each.alone:
            each.outcome.state, held[same[0]] = "changed", (origin, each.record)
        else:
            each.outcome.state = "added"
            held.append((origin, each.record))
    if held != before:
        replace(target, b"".join(raw + b"\n" for _, raw in held))
    digest, known_places = hash_file(target), origins()
    with _table().open("ab") as table:
        for number, (origin, _) in enumerate(held, 1):
            if (digest, number) not in known_places:
                about = {"sha256": digest, "line": number, "source": origin["source"], "source_line": origin["line"]}
                table.write(orjson.dumps(about) + b"\n")


def _table() -> Path:
    return Home.find().root / "replayed.jsonl"
