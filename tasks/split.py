"""Split: one clean dataset becomes train, validation and test.

A group (conversation, user, near-duplicate cluster) goes to one side as a whole, and stays there in later nights.
"""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import orjson

from tasks.history import pass_on
from tasks.ingest import remember
from tasks.run import Run
from tasks.stage import stage
from tunemill import rows, segments, splits
from tunemill.artifacts import BenchmarkFiles, CleanDataset, SourceFile, Splits
from tunemill.dedup import decontaminate
from tunemill.dedup.components import Ints
from tunemill.dedup.decontaminate import Contamination
from tunemill.dedup.text import normalise_all
from tunemill.errors import DataError, StoreError
from tunemill.files import FileDigests, link
from tunemill.home import PROJECT, Home
from tunemill.quality.sizes import TaskType, size_warning
from tunemill.rows import Row
from tunemill.splits import SIDES, SplitSettings, ledger, sides
from tunemill.splits.columns import prompts_of
from tunemill.splits.ledger import Grouping, Ledger
from tunemill.store import Work


def benchmark_files(settings: SplitSettings) -> BenchmarkFiles:
    """Find the benchmarks' files and what they hold.

    Raises:
        DataError: one of the names stands for no file.
    """
    home = Home.find()
    digest = FileDigests(home.root / "digests.json")
    found = [SourceFile(sha256=digest(path), path=str(path)) for path in sorted(set(_named(settings.benchmarks)))]
    if found:
        digest.save()
        remember(found, home.root / "sources.jsonl")
    return BenchmarkFiles(files=tuple(sorted(found, key=lambda file: file.sha256)))


def _named(names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        exact = PROJECT / name
        inside = [exact] if exact.exists() else [PROJECT / n for n in glob.glob(name, root_dir=PROJECT, recursive=True)]
        files = [path.resolve() for path in inside if path.is_file()]
        if not files:
            raise DataError(f"split.benchmarks: `{name}` stands for no file; looked in {PROJECT}\n  Mend the path.")
        yield from files


@stage(makes=Splits, version=6)
def split(
    work: Work, clean: CleanDataset, previous: Splits | None, benchmarks: BenchmarkFiles, settings: SplitSettings
) -> Splits:
    """Deal every row of `clean` to exactly one of three sides, or leave it out with its reason.

    A side is a folder of segments: those of the night before by second names, and one of the rows that tonight adds.
    """
    came = work.open(clean) / "rows"
    last = work.open(previous) if previous else None
    before = earlier(work, last)
    every = sides.Table.of(came)
    dealt = splits.split_table(every.rows, lambda some: _prompts(came, every, some), settings, before)
    standing = {side: sides.Table.of(last / side, sides.SAME) if last else None for side in SIDES}
    mine = {side: np.flatnonzero(dealt.places == number) for number, side in enumerate(SIDES)}
    digests = tuple(file.sha256 for file in benchmarks.files)
    suspect = mine["train"]
    if last and _looked_for(last) == (digests, settings.group_threshold):
        suspect = suspect[sides.stayed(standing["train"], every.rows.take(suspect))[0]]
    spoiled = _contaminated(came, every, suspect, benchmarks, settings)
    mine["train"] = _without(every, mine["train"], spoiled)
    new: dict[Path, Ints] = {}
    for side, places in mine.items():
        path, fresh = _begun(work.folder / side, every, places, standing[side], last and last / side)
        new[path] = fresh
    sides.add(came, every, new)
    counts = {side: segments.count(work.folder / side) for side in SIDES}
    counts |= {"bridges": len(dealt.bridges), "contaminated": len(spoiled)}
    if sum(counts.values()) != every.rows.num_rows:
        raise StoreError(
            f"split: {every.rows.num_rows:,} rows were read and {sum(counts.values()):,} dealt; report this bug"
        )
    rows.write_lines(work.folder / "bridges.jsonl", dealt.bridges)
    rows.write_lines(work.folder / "contaminated.jsonl", spoiled)
    certificate = msgspec.structs.replace(dealt.certificate, contaminated=len(spoiled), benchmarks=digests)
    facts = orjson.dumps(msgspec.to_builtins(certificate), option=orjson.OPT_INDENT_2)
    (work.folder / "certificate.json").write_bytes(facts)
    ledger.write(work.folder, before.nights, dealt.added, dealt.bands, settings.group_threshold)
    pass_on(work, clean)
    return work.seal(Splits, **counts, ledger=sum(certificate.ledger.rows.values()), nights=certificate.ledger.nights)


def earlier(work: Work, last: Path | None) -> Ledger:
    """Read what earlier nights dealt, and give their segments a second name in this night's folder."""
    for name in ("ledger", "prompts"):
        (work.folder / name).mkdir()
        if last and (last / name).is_dir():
            link(sorted((last / name).iterdir()), work.folder / name)
    if last is None:
        return Ledger()
    facts = orjson.loads((last / "certificate.json").read_bytes())
    grouping = msgspec.convert(facts["ledger"]["grouping"], Grouping)
    return ledger.read(work.folder / "ledger", grouping, work.folder / "prompts")


def _prompts(came: Path, every: sides.Table, some: Ints) -> list[str]:
    """Read what some rows are compared by, in their order; segments without any are not opened."""
    order = np.lexsort((every.position[some], every.segment[some]))
    read = segments.picked(came, every.places(some), ["messages"])
    texts = normalise_all(text for table in read for text in prompts_of(table))
    back = np.empty(order.size, np.int64)
    back[order] = np.arange(order.size)
    return [texts[i] for i in back.tolist()]


def _contaminated(
    came: Path, every: sides.Table, train: Ints, benchmarks: BenchmarkFiles, settings: SplitSettings
) -> list[Contamination]:
    """Find those of some train rows that hold an item of a benchmark."""
    items = [item for file in benchmarks.files for item in decontaminate.read(Path(file.path), file.sha256)]
    if not items:
        return []
    read = segments.picked(came, every.places(train))
    suspect = [row for table in read for row in msgspec.convert(table.to_pylist(), list[Row])]
    return decontaminate.contaminated(suspect, items, settings.group_threshold)


def _looked_for(last: Path) -> tuple[tuple[str, ...], float]:
    """Say which benchmarks the train rows of an earlier night were held against, and how alike they may be."""
    facts = orjson.loads((last / "certificate.json").read_bytes())
    return tuple(facts.get("benchmarks", ())), facts["threshold"]


def _without(every: sides.Table, places: Ints, spoiled: Sequence[Contamination]) -> Ints:
    if not spoiled:
        return places
    out = {(each.row_id, each.source, each.line) for each in spoiled}
    slim = every.rows.take(places)
    names = zip(*(slim[name].to_pylist() for name in ("row_id", "source", "line")), strict=True)
    return places[[name not in out for name in names]]


def _begun(
    folder: Path, every: sides.Table, places: Ints, before: sides.Table | None, last: Path | None
) -> tuple[Path, Ints]:
    """Begin a side with what stays of last night's; give its next segment, and the rows that belong there."""
    new, gone = sides.stayed(before, every.rows.take(places))
    lost = segments.deleted(last) if last else {}
    for name, positions in before.places(gone).items() if before else ():
        lost[name] = np.union1d(lost.get(name, positions), positions)
    return sides.begin(folder, last, lost), places[new]


def warn_if_small(made: Splits, task_type: TaskType) -> Splits:
    """Warn where there are fewer training rows than the course asks for; give the splits on."""
    if text := size_warning(task_type, made.counts["train"]):
        Run.current().warn(text)
    return made
