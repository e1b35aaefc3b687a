"""Preview: say what raw files hold, how the model will see them, and what would be rejected, from their first records.

No file is read to its end or hashed, and nothing is downloaded unasked, so a file of any size takes seconds. The
pipeline's own readers, rules and tokenizer decide: what is shown is what a run would do.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, groupby, zip_longest
from pathlib import Path

import msgspec

from tasks.preview_file import FileFacts, look
from tasks.probe import Held, Rules, held
from tunemill.config import PipelineConfig
from tunemill.errors import ModelError
from tunemill.models.chat import Chat, Encoded
from tunemill.models.settings import ModelSettings
from tunemill.rows import Message, Rejected, Row
from tunemill.sources import expand
from tunemill.sources.settings import IngestSettings

RECORDS = 200
"""Records that are read of each file; of many files fewer, but at least 10."""
RECORDS_IN_ALL = 2_000
FILES = 50
"""Files that are looked into; where there are more, these are spread over all in the order of their names."""
DEFAULT_MODEL = ModelSettings(packaged="smollm2-135m-instruct")
"""The quickstart's, whose tokens are shown where no configuration names a model."""


class Part(msgspec.Struct):
    """A piece of a rendered conversation, and whether the model is trained to write it."""

    text: str
    trained: bool


class ShownRow(msgspec.Struct):
    """A row as the model will see it; without a tokenizer only its turns."""

    file: str
    line: int
    messages: tuple[Message, ...]
    parts: list[Part] = []
    tokens: int = 0
    trained_tokens: int = 0
    refused: str = ""
    """Why the chat template does not take it, "" where it does."""


class Reason(msgspec.Struct):
    """Records that would be rejected for one reason, with the first of them."""

    stage: str
    reason: str
    records: int
    file: str
    line: int
    detail: str


class Size(msgspec.Struct):
    """What all files may hold."""

    records: int
    rows: int
    """Records that can be read as rows."""
    kept: int
    """Rows that meet the rules, copies among them."""
    tokens: int
    trained_tokens: int
    """Of the kept rows: by the tokenizer where it is held; else by rule of thumb, and 0 trained."""
    exact: bool
    """Whether every record of every file was read; tokens may still be those of the first rows, scaled up."""


class Preview(msgspec.Struct):
    """What the first records of the files say; `--json` prints it."""

    path: str
    files_in_all: int
    bytes: int
    files: list[FileFacts]
    """Those that were looked into."""
    read: int
    """Records that were read of them."""
    size: Size
    model: str
    tokenizer: bool
    """Whether the model's tokenizer was at hand; `notes` say why not and how to get it."""
    shown: list[ShownRow]
    rejected: list[Reason]
    allowed: dict[str, float]
    """Stage → share of records that it may reject before the run stops; empty without a configuration."""
    stops: list[str]
    """What would stop a run."""
    notes: list[str]


def preview(path: str, config: PipelineConfig | None = None, rows: int = 5, fetch: bool = False) -> Preview:
    """Look into a file, a folder or the files of a glob; relative paths count from here.

    Args:
        config: whose way of reading (all of `ingest` but the files), rules and model count; without one the defaults,
            the map that the columns suggest, no rules, and the quickstart's model.
        rows: how many to show, by turns from each file.
        fetch: make the tokenizer where none is held, even if the model must be downloaded for it.

    Raises:
        DataError: the path stands for no file.
        ConfigError: an expectation of the configuration does not exist.
    """
    paths = expand(path, Path.cwd())
    settings = config.ingest if config else IngestSettings(files=(path,))
    most = min(RECORDS, max(10, RECORDS_IN_ALL // min(FILES, len(paths))))
    looked = [look(each, _name(each), settings, most, guess=config is None) for each in _spread(paths)]
    files, found = [facts for facts, _ in looked], list(chain.from_iterable(outcomes for _, outcomes in looked))
    model = config.model if config else DEFAULT_MODEL
    tokenizer, notes = _tokenizer(model, fetch)

    kept = read = [outcome for outcome in found if isinstance(outcome, Row)]
    rejected = _reasons("ingest", (outcome for outcome in found if isinstance(outcome, Rejected)))
    stops = [facts.stops for facts in files if facts.stops]
    if config and read:
        rules = Rules(config.validation, tokenizer.chat if tokenizer else None)
        checked = rules.check(read)
        kept, rejected = checked.kept, rejected + _reasons("validate", checked.rejected)
        stops += rules.refusals[:1]
    return Preview(
        path=path,
        files_in_all=len(paths),
        bytes=sum(each.stat().st_size for each in paths),
        files=files,
        read=len(found),
        size=_size(paths, files, len(read), _by_turns(kept), tokenizer),
        model=_called(model),
        tokenizer=tokenizer is not None,
        shown=[_rendered(row, tokenizer) for row in _by_turns(kept)[:rows]],
        rejected=rejected,
        allowed={"ingest": config.ingest.max_rejected, "validate": config.validation.max_rejected} if config else {},
        stops=stops,
        notes=notes,
    )


def _spread(paths: Sequence[Path]) -> list[Path]:
    return [paths[number * len(paths) // FILES] for number in range(FILES)] if len(paths) > FILES else list(paths)


def _name(path: Path) -> str:
    """Write a path as it is typed from here."""
    here = Path.cwd().resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _called(model: ModelSettings) -> str:
    return model.packaged or str(model.folder or model.hub)


def _tokenizer(model: ModelSettings, fetch: bool) -> tuple[Held | None, list[str]]:
    """Give the model's tokenizer, or a note that says why there is none."""
    try:
        found = held(model, fetch)
    except ModelError as error:
        return None, [f"No tokens, since the model cannot be used: {error}"]
    way = "--fetch gets it, once, and so does a run"
    return found, [] if found else [f"No tokens, since the tokenizer of {_called(model)} is not held; {way}."]


def _reasons(stage: str, rejected: Iterable[Rejected]) -> list[Reason]:
    """Count by reason, most first."""
    every = list(rejected)
    first = {one.reason: one for one in reversed(every)}
    counts = Counter(one.reason for one in every).most_common()
    return [Reason(stage, reason, n, (one := first[reason]).source, one.line, one.detail) for reason, n in counts]


def _by_turns(rows: Iterable[Row]) -> list[Row]:
    """Order rows such that the files take turns, each in the order of its lines."""
    files: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.source, row.line)):
        files.setdefault(row.source, []).append(row)
    return [row for turn in zip_longest(*files.values()) for row in turn if row is not None]


def _size(
    paths: Sequence[Path], files: Sequence[FileFacts], read: int, kept: Sequence[Row], tokenizer: Held | None
) -> Size:
    """Scale what was read up to all files, by their bytes."""
    whole = len(files) == len(paths)
    scale = 1.0 if whole else sum(each.stat().st_size for each in paths) / max(1, sum(each.bytes for each in files))
    share = len(kept) / read if read else 0.0
    rows = scale * sum(facts.rows for facts in files)
    tokens, trained = scale * share * sum(facts.tokens for facts in files), 0.0
    if tokenizer and (lengths := [found for row in kept[:RECORDS] if (found := _lengths(row, tokenizer.chat))]):
        tokens = rows * share * sum(each for each, _ in lengths) / len(lengths)
        trained = rows * share * sum(each for _, each in lengths) / len(lengths)
    return Size(
        records=round(scale * sum(facts.records for facts in files)),
        rows=round(rows),
        kept=round(rows * share),
        tokens=round(tokens),
        trained_tokens=round(trained),
        exact=whole and all(facts.whole for facts in files),
    )


def _lengths(row: Row, chat: Chat) -> tuple[int, int] | None:
    """Count the tokens of a row and the trained ones; None where the template does not take it."""
    try:
        encoded = chat.encode(row.messages, row.tools)
    except ModelError:
        return None
    return len(encoded.ids), sum(encoded.trained)


def _rendered(row: Row, tokenizer: Held | None) -> ShownRow:
    shown = ShownRow(row.source, row.line, row.messages)
    if tokenizer is None:
        return shown
    try:
        encoded = tokenizer.chat.encode(row.messages, row.tools)
    except ModelError as error:
        shown.refused = str(error)
        return shown
    shown.tokens, shown.trained_tokens = len(encoded.ids), sum(encoded.trained)
    shown.parts = _parts(encoded, tokenizer.folder)
    return shown


def _parts(encoded: Encoded, folder: Path) -> list[Part]:
    """Cut the text of the tokens, control tokens too, where training begins and ends.

    The text from the first token on is asked for at each cut, since some tokenizers drop a space at the start.
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    parts, before, end = list[Part](), "", 0
    for trained, run in groupby(encoded.trained):
        end += len(list(run))
        text = tokenizer.decode(encoded.ids[:end], skip_special_tokens=False)
        parts.append(Part(text[len(before) :], trained))
        before = text
    return parts
