"""Split: one clean dataset becomes train, validation and test.

A group (conversation, user, near-duplicate cluster) goes to one side as a whole, and stays there in later nights.
"""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import orjson

from tasks.history import pass_on
from tasks.ingest import remember
from tasks.run import Run
from tasks.stage import stage
from tunemill import rows, segments, splits
from tunemill.artifacts import BenchmarkFiles, CleanDataset, SourceFile, Splits
from tunemill.dedup import decontaminate
from tunemill.dedup.decontaminate import Contamination
from tunemill.errors import DataError, StoreError
from tunemill.files import FileDigests, link
from tunemill.home import PROJECT, Home
from tunemill.quality.sizes import TaskType, size_warning
from tunemill.rows import Row
from tunemill.splits import SIDES, SplitSettings, ledger
from tunemill.splits.ledger import Grouping, Ledger
from tunemill.store import Work

if TYPE_CHECKING:
    import pyarrow as pa


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


SLIM = ("row_id", "source", "line", "conversation", "user", "time")
"""What is read of every row; of those that are dealt tonight all is."""


@stage(makes=Splits, version=5)
def split(
    work: Work, clean: CleanDataset, previous: Splits | None, benchmarks: BenchmarkFiles, settings: SplitSettings
) -> Splits:
    """Deal every row of `clean` to exactly one of three files, or leave it out with its reason."""
    before = earlier(work, previous)
    table, known = _opened(work.open(clean) / "rows", settings, before)
    dealt = splits.split(known, settings, before)
    parts = {side: [i for i, own in enumerate(dealt.sides) if own == side] for side in SIDES}
    spoiled = _contaminated(table, parts["train"], benchmarks, settings)
    out = {(each.row_id, each.source, each.line) for each in spoiled}
    parts["train"] = [i for i in parts["train"] if (known[i].row_id, known[i].source, known[i].line) not in out]
    _write_parts(work.folder, table, parts)
    counts = {**{side: len(part) for side, part in parts.items()}, "bridges": len(dealt.bridges)}
    counts["contaminated"] = len(spoiled)
    if sum(counts.values()) != len(known):
        raise StoreError(f"split: {len(known):,} rows were read and {sum(counts.values()):,} dealt; report this bug")
    rows.write_lines(work.folder / "bridges.jsonl", dealt.bridges)
    rows.write_lines(work.folder / "contaminated.jsonl", spoiled)
    certificate = msgspec.structs.replace(dealt.certificate, contaminated=len(spoiled))
    facts = orjson.dumps(msgspec.to_builtins(certificate), option=orjson.OPT_INDENT_2)
    (work.folder / "certificate.json").write_bytes(facts)
    ledger.write(work.folder / "ledger" / ledger.segment(before.nights), dealt.entries)
    pass_on(work, clean)
    return work.seal(Splits, **counts, ledger=sum(certificate.ledger.rows.values()), nights=certificate.ledger.nights)


def earlier(work: Work, previous: Splits | None) -> Ledger:
    """Read what earlier nights dealt, and give their segments a second name in this night's folder."""
    folder = work.folder / "ledger"
    folder.mkdir()
    if previous is None:
        return Ledger()
    last = work.open(previous)
    link(sorted((last / "ledger").iterdir()), folder)
    facts = orjson.loads((last / "certificate.json").read_bytes())
    return ledger.read(folder, msgspec.convert(facts["ledger"]["grouping"], Grouping))


def _opened(path: Path, settings: SplitSettings, before: Ledger) -> tuple["pa.Table", list[Row]]:
    """Read rows from old to new; only those that have to be looked at with their messages."""
    table = segments.table(path).cast(rows.schema())  # parquet names the items of a list otherwise
    columns = (table[name].to_pylist() for name in SLIM)
    slim = [Row(messages=(), **dict(zip(SLIM, values, strict=True))) for values in zip(*columns, strict=True)]
    order = sorted(range(len(slim)), key=lambda i: (slim[i].place, slim[i].row_id))
    if order != list(range(len(slim))):
        table, slim = _taken(table, order), [slim[i] for i in order]
    places = splits.fresh(slim, settings, before)
    for place, row in zip(places, _whole(table, places), strict=True):
        slim[place] = row
    return table, slim


def _whole(table: "pa.Table", places: Sequence[int]) -> list[Row]:
    return msgspec.convert(_taken(table, places).to_pylist(), list[Row])


def _taken(table: "pa.Table", places: Sequence[int]) -> "pa.Table":
    import pyarrow as pa

    return table.take(pa.array(places, pa.int64())).combine_chunks()


def _contaminated(
    table: "pa.Table", train: Sequence[int], benchmarks: BenchmarkFiles, settings: SplitSettings
) -> list[Contamination]:
    """Find the train rows that hold an item of a benchmark."""
    items = [item for file in benchmarks.files for item in decontaminate.read(Path(file.path), file.sha256)]
    return decontaminate.contaminated(_whole(table, train), items, settings.group_threshold) if items else []


def _write_parts(folder: Path, table: "pa.Table", parts: dict[str, list[int]]) -> None:
    import pyarrow.parquet as pq

    for side, places in parts.items():
        (folder / side).mkdir()
        pq.write_table(_taken(table, places), folder / side / segments.name(0), compression="zstd")


def warn_if_small(made: Splits, task_type: TaskType) -> Splits:
    """Warn where there are fewer training rows than the course asks for; give the splits on."""
    if text := size_warning(task_type, made.counts["train"]):
        Run.current().warn(text)
    return made
