"""Validate: rows that meet every expectation go on; the others are set aside with the expectation's name."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.check_file import check_file, counter, seal
from tasks.ingest import file_names
from tasks.run import listener
from tasks.stage import stage
from tunemill import rows, segments
from tunemill.artifacts import RawDataset, RowsFile, Tokenizer, ValidDataset, ValidFile
from tunemill.errors import DataError
from tunemill.files import link
from tunemill.quality import expectations, found
from tunemill.quality.checkpoint import open_context
from tunemill.quality.examples import spread
from tunemill.quality.found import Facts, Lengths
from tunemill.quality.limits import DatasetRefused, Summary, enforce
from tunemill.quality.report import write_report
from tunemill.quality.settings import ValidateSettings
from tunemill.rows import Row
from tunemill.store import Store, Work

if TYPE_CHECKING:
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext

DOCS = "What Great Expectations says of these rows: [Data Docs](data_docs/index.html)."


@stage(makes=ValidDataset, version=5, engines=("great_expectations", "tokenizers"))
def validate(work: Work, raw: RawDataset, tokenizer: Tokenizer, settings: ValidateSettings) -> ValidDataset:
    """Run the Great Expectations suite over every row and write what a person wants to see of it.

    Rows of a file that an earlier night has checked are not checked again, as long as each rule looks at a row alone.
    """
    work.open(raw)
    alone = expectations.looks_at_rows_alone(settings)
    summary, checked = (_file_by_file if alone else _together)(work, raw, tokenizer, settings)
    names = file_names()
    try:
        enforce(summary, names)
    except DatasetRefused as refused:
        listed = work.resume / "rejected.jsonl"
        shutil.copyfile(work.folder / "rejected.jsonl", listed)
        raise DataError(f"{refused}\n  all of them: {listed}\n  Earlier stages are kept.") from None
    write_report(summary, spread(work.folder / "rows"), work.report, names, checked)
    facts = summary.facts
    return work.seal(ValidDataset, rows=facts.kept, rejected=facts.rejected, tokens=summary.lengths.tokens)


def rows_files(store: Store, raw: RawDataset) -> list[RowsFile]:
    """List a dataset's files of rows, in the order of their names."""
    manifest, folder = store.manifest(raw.stage, raw.key), store.folder(raw.stage, raw.key)
    tables = {name: file for name, file in (manifest.files if manifest else {}).items() if name.startswith("rows/")}
    return [
        RowsFile(source=Path(name).stem, sha256=tables[name].sha256, path=str(folder / name)) for name in sorted(tables)
    ]


def unchecked(
    store: Store, files: Iterable[RowsFile], tokenizer: Tokenizer, settings: ValidateSettings
) -> list[RowsFile]:
    """List the files whose rows no earlier night has checked, by what is held now; no byte of that is read."""
    alone = expectations.looks_at_rows_alone(settings)
    on_rows = expectations.of_rows(settings)
    return [file for file in files if not (alone and check_file.stands(store, file, tokenizer, on_rows))]


def _file_by_file(work: Work, raw: RawDataset, tokenizer: Tokenizer, settings: ValidateSettings) -> tuple[Summary, str]:
    """Check the files that are new, and add up what was found in all; also say which were checked when."""
    on_rows, on_dataset = expectations.of_rows(settings), expectations.on_dataset(settings)
    parts = {file: check_file.held(work.store, file, tokenizer, on_rows) for file in rows_files(work.store, raw)}
    new = [file for file, part in parts.items() if part is None]
    context = open_context(work.report / "data_docs") if new or on_dataset else None
    if context and new:
        parts.update(_checked(work, new, tokenizer, on_rows, context))
    facts, lengths = _summed(work, [part for part in parts.values() if part])
    shown = [*expectations.expectation_facts(facts, settings), expectations.least_rows(facts.kept, settings)]
    if context:
        kept = segments.read(work.folder / "rows") if on_dataset else []
        shown += expectations.check_dataset(kept, lengths.kept_tokens, settings, context)
        context.build_data_docs()
    return Summary(facts, shown, lengths, settings), _told(len(new), len(parts))


def _checked(
    work: Work,
    files: Sequence[RowsFile],
    tokenizer: Tokenizer,
    settings: ValidateSettings,
    context: "EphemeralDataContext",
) -> Iterator[tuple[RowsFile, ValidFile]]:
    """Check many files at once and seal what was found in each, so that a kill costs one batch."""
    by_source = {file.source: file for file in files}
    given = ((file.source, rows.read(Path(file.path))) for file in files)
    results = expectations.check(given, settings, counter(work, tokenizer), context)
    for number, (source, one) in enumerate(results, 1):
        fill = partial(seal, source=source, one=one)
        yield by_source[source], check_file.keep(fill, work.store, by_source[source], tokenizer, settings)
        listener().progress("validate", number, len(files), "files")


def _summed(work: Work, parts: Sequence[ValidFile]) -> tuple[Facts, Lengths]:
    """Add up what was found in the parts, and give their rows a second name here."""
    (work.folder / "rows").mkdir()
    folders = [work.open(part) for part in parts]
    with (work.folder / "rejected.jsonl").open("wb") as rejected:
        for folder in folders:
            link((folder / "rows").glob("*"), work.folder / "rows")
            if (listed := folder / "rejected.jsonl").is_file():
                rejected.write(listed.read_bytes())
    facts = found.joined([found.read_facts(folder) for folder in folders])
    return facts, found.joined_lengths(found.read_lengths(folder) for folder in folders)


def _together(work: Work, raw: RawDataset, tokenizer: Tokenizer, settings: ValidateSettings) -> tuple[Summary, str]:
    """Check all rows at once, because some rule judges a row by the others."""
    given = segments.read(work.open(raw) / "rows")
    validated = expectations.examine(given, settings, counter(work, tokenizer), work.report / "data_docs")
    by_source: dict[str, list[Row]] = {}
    for row in validated.kept:
        by_source.setdefault(row.source, []).append(row)
    (work.folder / "rows").mkdir()
    for source, kept in by_source.items():
        rows.write(work.folder / "rows" / f"{source}.parquet", kept)
    rows.write_lines(work.folder / "rejected.jsonl", validated.rejected)
    return validated.summary, f"A rule looks at several rows, so that all were checked at once. {DOCS}"


def _told(new: int, files: int) -> str:
    """Say which rows the Data Docs are about."""
    if new == files:
        return f"All rows were checked in this run. {DOCS}"
    if not new:
        return f"No row was checked in this run: the counts are those of earlier runs, of {files:,} files."
    held = f"{files - new:,} {'file was' if files - new == 1 else 'files were'} checked in earlier runs"
    return f"The rows of {new:,} of {files:,} files were checked in this run; {held}, and the counts are added. {DOCS}"
