"""Night: open the night of a date with the files that are new to it, and write down what became of it.

A record under `nights/<name>/` is written when the night opens, when its verdict is reached and when it is answered,
each time old or new and never half. One process at a time has a product's nights.
"""

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.ingest import closed_files
from tasks.run import Run
from tunemill import nights
from tunemill.artifacts import SourceFile, SourceFiles
from tunemill.config import PipelineConfig
from tunemill.errors import ConfigError, GateNotPassed
from tunemill.files import FileDigests, replace
from tunemill.home import Home
from tunemill.nights import Champion, Night, Taken
from tunemill.registry import CHAMPION, Registry
from tunemill.rows import Row
from tunemill.sources import read
from tunemill.sources.settings import IngestSettings
from tunemill.sources.streams import FileCounts
from tunemill.store import Store


@contextlib.contextmanager
def alone(config: PipelineConfig) -> Iterator[None]:
    """Wait until no other process has this product's nights, then have them inside this block.

    Raises:
        ConfigError: the configuration promotes by itself or registers nothing, where a night asks a person.
    """
    if config.promote.when != "approval":
        raise ConfigError(
            f"promote.when is {config.promote.when}: a night is promoted by a person's answer and in no other way\n"
            "  Set promote.when to approval, or run the configuration without nights: tunemill run"
        )
    home = Home.find()
    home.enter()
    with Store(home.store).lock("night", config.name):
        yield


def records(name: str) -> list[Night]:
    """Read the records of a product's nights, oldest first."""
    folder = Home.find().nights / name
    return [nights.from_json(path.read_bytes(), str(path)) for path in sorted(folder.glob("[!.]*.json"))]


def write(night: Night) -> Night:
    """Write a night's record and give the night on."""
    folder = Home.find().nights / night.name
    folder.mkdir(parents=True, exist_ok=True)
    replace(folder / f"{night.date}.json", nights.to_json(night))
    return night


def night_files(name: str, date: datetime.date) -> SourceFiles:
    """Give the files that a night has taken."""
    (night,) = [each for each in records(name) if each.date == date]
    return night.source_files


def split_before(name: str, date: datetime.date) -> str | None:
    """Give the key of the split that the finished night before this one was made from; None where there is none."""
    known = {night.date: night for night in records(name)}
    before = known[date].before
    return known[before].keys.get("split") if before in known else None


def champion(name: str) -> Champion | None:
    """Find the version in use; None where there is none or MLflow does not say, so that none can be replaced."""
    with Run.current().unless_down("did not say which version is champion, so no other can replace it tonight"):
        registry = Registry(Home.find())
        number = registry.holder(name, CHAMPION)
        digests = {version.number: version.digest for version in registry.versions(name)} if number else {}
        return Champion(version=number, digest=digests[number]) if number else None
    return None


def opened(
    config: PipelineConfig,
    date: datetime.date,
    today: datetime.date,
    flow_run: str | None = None,
    in_use: Champion | None = None,
) -> Night:
    """Open the night of a date, or find what became of it; written down unless it was judged or cannot be a night."""
    night = found(config, date, today)
    if night.state == "judged" or (night.state == "skipped" and not night.files):
        return night
    return write(night.model_copy(update={"flow_run": flow_run, "champion": in_use}))


def found(config: PipelineConfig, date: datetime.date, today: datetime.date) -> Night:
    """Give the night of a date: as its record says, else with what is new to it, else skipped with the reason.

    A night that came to no verdict has the same files again, where these still stand: what it had made is held. A
    skipped one looks again.
    """
    known = records(config.name)
    own = next((night for night in known if night.date == date), None)
    if own and own.state == "judged":
        return own
    settings = config.model_dump(mode="json", by_alias=True)
    if own and own.state == "open" and _standing(own.files) == {file.sha256 for file in own.files}:
        return own.model_copy(update={"config": settings})
    fresh = Night(name=config.name, date=date, config=settings)
    if why := nights.refusal(date, today, known):
        return fresh.model_copy(update={"state": "skipped", "reason": why})
    return _filled(fresh, config, nights.earlier(known, date))


def _filled(night: Night, config: PipelineConfig, finished: list[Night]) -> Night:
    """Take the files of a new night, and skip it where too few rows are new."""
    closed = closed_files(config.ingest)
    elsewhere = nights.recorded(finished).values()
    taken = nights.take(closed, finished, _standing(elsewhere))
    rows = rows_up_to(taken, config.ingest, config.nightly.min_new_rows)
    before = finished[-1].date if finished else None
    why = nights.too_few(taken, rows, config.nightly, before)
    if taken.gone and not why:
        Run.current().warn(
            f"{len(taken.gone):,} files that earlier nights took are gone or changed; {night.title} goes on without "
            "their rows; its split goes on from that of the night before"
        )
    facts = {"files": taken.files, "new": taken.new, "gone": taken.gone, "new_rows": rows, "before": before}
    return night.model_copy(update={**facts, "state": "skipped" if why else "open", "reason": why})


def rows_up_to(taken: Taken, settings: IngestSettings, enough: int) -> int:
    """Count the rows of the new files that ingest would keep, no further than to `enough`."""
    new, count = set(taken.new), 0
    for file in taken.files:
        if file.sha256 in new:
            for record in read(Path(file.path), file.sha256, settings, FileCounts()):
                count += isinstance(record, Row) and record.liked is not False
                if count >= enough:
                    return count
    return count


def _standing(files: Any) -> frozenset[str]:
    """Give the digests of those files that lie where they are said to, with the same bytes."""
    digest = FileDigests(Home.find().root / "digests.json")

    def stands(file: SourceFile) -> bool:
        try:
            return digest(Path(file.path)) == file.sha256
        except OSError:
            return False

    found = frozenset(file.sha256 for file in files if stands(file))
    digest.save()
    return found


def settings_of(night: Night, config: PipelineConfig) -> PipelineConfig:
    """Give the configuration by which a night was judged, or is to be: a later change of the file does not touch it."""
    if night.state != "judged":
        return config
    try:
        judged = PipelineConfig.model_validate(night.config)
    except ValidationError as error:
        raise ConfigError(
            f"{night.title} was judged with settings that this version of Tunemill does not know\n  {error}"
        ) from error
    if _asked(judged) != _asked(config):
        Run.current().warn(f"{night.title} was judged with other settings than those given now; it keeps its own")
    return judged


def _asked(config: PipelineConfig) -> dict[str, Any]:
    """Give what a verdict depends on: all but what follows it."""
    return {name: value for name, value in config.decisions().items() if name != "nightly"}


def judged(night: Night, summary: dict[str, Any]) -> Night:
    """Write down the verdict of a night: from here on it is finished, and its files are taken.

    Raises:
        GateNotPassed: a person was asked about other files than those that now came out.
    """
    keys = {stage["name"]: stage["key"] for stage in summary["stages"]}
    if night.state == "judged" and night.keys == keys and night.verdict == summary["gate"]:
        return night
    exported = Store.at(Home.find().store).manifest("export", keys["export"])
    digest = exported.digest if exported else ""
    if night.approval is not None:
        raise GateNotPassed(
            f"{night.title}: the question was about files of digest {night.digest[:12]}, and run again it gave "
            f"{digest[:12]} ({summary['gate']}); nothing is promoted\n"
            "  Something that its settings do not name has changed, such as this version of Tunemill. Promote the "
            "version that was asked about by hand (tunemill promote), or wait for the next night."
        )
    facts = {"run": summary["run"], "verdict": summary["gate"], "keys": keys, "digest": digest}
    return write(night.model_copy(update={**facts, "state": "judged"}))
