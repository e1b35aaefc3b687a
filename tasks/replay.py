"""Replay: take rejected records in again after a person mended them.

What can be read now is written as JSONL beside the file it came from, `tickets.csv.replayed.jsonl`, which the next run
takes in as any other file. Each record carries its origin in `replayed_from`, and `replayed.jsonl` under TUNEMILL_HOME
says the same by digest and line, so that a trace can lead back to the line that was rejected.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from tasks.preview_text import visible
from tasks.probe import Rules, held
from tasks.replay_files import ENDING, Outcome, Ready, origins, write, written
from tasks.replay_mend import OF_READERS, Listed, StaysOut, parsed, record
from tasks.replay_sources import Source, check, find
from tasks.screen import listed
from tasks.trace_names import Names
from tunemill.config import PipelineConfig
from tunemill.errors import ConfigError, DataError
from tunemill.home import PROJECT, Home
from tunemill.rows import Rejected, Row
from tunemill.sources import expand
from tunemill.sources.settings import IngestSettings

WORDS = {
    "added": "added",
    "changed": "mended anew",
    "held": "there already",
    "out": "still bad",
    "unmended": "not mended yet",
}


class Replayed(msgspec.Struct):
    """What became of a list; `--json` prints it."""

    outcomes: list[Outcome]
    notes: list[str]


def replay(path: Path, into: Path | None = None, config: PipelineConfig | None = None) -> Replayed:
    """Take in what was mended in a list of rejected records; the same list again adds nothing.

    Args:
        into: file to write; left out, one beside each source file.
        config: how the records are read and which rules they must meet; without one the defaults, and no record that a
            rule rejected is taken.

    Raises:
        ConfigError: the list is not there or is part of an artifact, or a file to write is not one that replay wrote.
        DataError: the columns that `ingest.map` names are not in a source file.
    """
    settings = config.ingest if config else IngestSettings(files=(str(path),))
    listing = [(Outcome(number), _parsed(raw)) for number, raw in _lines(path)]
    ready = _readable(_mended(listing, into, settings, config is not None), settings)
    notes = list[str]()
    if config and ready:
        ready, notes = _by_the_rules(ready, config)
    before = {target: written(target) for target in sorted({each.target for each in ready})}
    for target, lines in before.items():
        write(target, lines, [each for each in ready if each.target == target])
    return Replayed([outcome for outcome, _ in listing], [*notes, *_notes(before, config)])


def shown(found: Replayed) -> str:
    """Tell what became of a list."""
    return visible("\n".join(_told(found)))


def _lines(path: Path) -> list[tuple[int, bytes]]:
    """Read the list, blank lines left out.

    Raises:
        ConfigError: there is none, or it is part of an artifact.
    """
    if not path.is_file():
        raise ConfigError(f"replay: {path}: no such file; a run that rejects records says where it lists them")
    place, store = path.resolve(), Home.find().store
    inside = place.relative_to(store).parts if place.is_relative_to(store) else ()
    if len(inside) > 2 and not inside[1].startswith("."):
        raise ConfigError(
            f"replay: {path} is part of an artifact, which an edit would damage\n"
            f"  Edit a copy: cp {path} mended.jsonl; then: tunemill replay mended.jsonl"
        )
    return [(number, raw) for number, raw in enumerate(path.read_bytes().split(b"\n"), 1) if raw.strip()]


def _parsed(raw: bytes) -> Listed | StaysOut:
    try:
        return parsed(raw)
    except StaysOut as why:
        return why


def _mended(
    listing: Sequence[tuple[Outcome, Listed | StaysOut]], into: Path | None, settings: IngestSettings, rules: bool
) -> list[Ready]:
    """Turn what was mended into records; the outcomes of the others say why they stay out."""
    names, replayed, ready = Names.read(), {digest for digest, _ in origins()}, list[Ready]()
    sources = _sources((each for _, each in listing if isinstance(each, Listed)), names, settings)
    columns = settings.map.columns() if settings.map else {}
    for outcome, each in listing:
        try:
            if isinstance(each, StaysOut):
                raise each
            source, name = sources[each.source], names.of(each.source)
            outcome.origin = f"{name}:{each.line}"
            if each.source in replayed:
                raise StaysOut(each.reason, f"replay wrote {name}; mend line {each.line} there")
            if each.reason not in OF_READERS and not rules:
                raise StaysOut(
                    each.reason, "a rule of the configuration; name that, so that it is asked: --config CONFIG"
                )
            made = record(each, source, columns)
            ready.append(Ready(outcome, _target(source, into), made, len(source.at(each.line)) < 2))
        except StaysOut as why:
            outcome.reason, outcome.detail = why.reason, why.detail
            outcome.state = "out" if why.mended else "unmended"
    return ready


def _sources(listed: Iterable[Listed], names: Names, settings: IngestSettings) -> dict[str, Source]:
    wanted: dict[str, set[int]] = {}
    for each in listed:
        wanted.setdefault(each.source, set()).add(each.line)
    asked = _asked(settings)
    return {digest: find(digest, names, asked, lines, settings) for digest, lines in wanted.items()}


def _asked(settings: IngestSettings) -> list[Path]:
    """List the files that the configuration names, as far as there are any."""
    try:
        return expand(settings.files, PROJECT)
    except DataError:
        return []


def _target(source: Source, into: Path | None) -> Path:
    if into is not None:
        return into.resolve()
    if source.path is None:
        raise StaysOut("source not found", "so there is no folder to write to; name a file: --into FILE.jsonl")
    return source.path.with_name(source.path.name + ENDING)


def _readable(ready: Sequence[Ready], settings: IngestSettings) -> list[Ready]:
    """Keep the records that the readers make a row of."""
    for each, made in zip(ready, check([each.record for each in ready], settings), strict=True):
        each.made = [row for row in made if isinstance(row, Row)]
        for bad in made:
            if isinstance(bad, Rejected):
                each.made, each.outcome.reason, each.outcome.detail = [], bad.reason, bad.detail
                break
    return [each for each in ready if each.made]


def _by_the_rules(ready: Sequence[Ready], config: PipelineConfig) -> tuple[list[Ready], list[str]]:
    """Keep the records whose rows meet the rules of validate; also give a note where one could not be asked."""
    tokenizer = held(config.model)
    rules = Rules(config.validation, tokenizer.chat if tokenizer else None)
    rejected = {one.line: one for one in rules.check([row for each in ready for row in each.made]).rejected}
    left = []
    for each in ready:
        bad = next((rejected[row.line] for row in each.made if row.line in rejected), None)
        if bad:
            each.outcome.reason, each.outcome.detail = bad.reason, bad.detail.removeprefix(bad.reason).strip()
        else:
            left.append(each)
    note = "No rule on tokens was asked, since the tokenizer is not held; a run gets it."
    return left, [*rules.refusals[:1], *([] if tokenizer else [note])]


def _notes(targets: Iterable[Path], config: PipelineConfig | None) -> Iterator[str]:
    """Say of the files written whether a run reads them."""
    if config is None:
        names = ", ".join(_shown(target) for target in targets)
        yield from [f"A run reads them if ingest.files takes them: {names}"] if names else []
        return
    taken = _asked(config.ingest)
    for target in targets:
        if target not in taken:
            yield f"Add {_shown(target)} to ingest.files, so that a run reads it."
        if (form := config.ingest.format) not in ("auto", "jsonl"):
            yield f"ingest.format is {form} for all files; set it to auto, since {target.name} is jsonl."


def _told(found: Replayed) -> Iterator[str]:
    counts = Counter(outcome.state for outcome in found.outcomes)
    told = _counted(counts)
    yield f"{listed({'rejected records': len(found.outcomes)})}: {told}" if told else "The list holds no record."
    for file in dict.fromkeys(outcome.file for outcome in found.outcomes if outcome.file):
        mine = Counter(outcome.state for outcome in found.outcomes if outcome.file == file)
        yield f"  {_shown(Path(file))}: {_counted(mine)}"
    for state in ("out", "unmended"):
        left = [outcome for outcome in found.outcomes if outcome.state == state]
        yield from [f"{WORDS[state]}:"] if left else []
        for outcome in left:
            why = [outcome.reason] * (not outcome.detail.startswith(outcome.reason)) + [outcome.detail]
            yield f"  line {outcome.line}  {outcome.origin}  {': '.join(part for part in why if part)}"
    yield from found.notes


def _counted(counts: "Counter[str]") -> str:
    return ", ".join(f"{counts[state]:,} {word}" for state, word in WORDS.items() if counts[state])


def _shown(path: Path) -> str:
    return str(path.relative_to(PROJECT)) if path.is_relative_to(PROJECT) else str(path)
