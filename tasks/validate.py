"""Validate: rows that meet every expectation go on; the others are set aside with the expectation's name."""

from tasks.ingest import file_names
from tasks.stage import stage
from tunemill import rows
from tunemill.artifacts import RawDataset, Tokenizer, ValidDataset
from tunemill.errors import DataError
from tunemill.models.chat import Chat
from tunemill.quality import expectations
from tunemill.quality.limits import DatasetRefused
from tunemill.quality.report import write_report
from tunemill.quality.settings import ValidateSettings
from tunemill.store import Work


@stage(makes=ValidDataset, version=3, engines=("great_expectations", "tokenizers"))
def validate(work: Work, raw: RawDataset, tokenizer: Tokenizer, settings: ValidateSettings) -> ValidDataset:
    """Run the Great Expectations suite over every row and write what a person wants to see of it."""
    chat = Chat(work.open(tokenizer))
    names = file_names()
    read = rows.read(work.open(raw) / "rows.parquet")
    try:
        validated = expectations.validate(
            read, settings, lambda turns, tools: len(chat.encode(turns, tools).ids), work.report / "data_docs", names
        )
    except DatasetRefused as refused:
        listed = work.resume / "rejected.jsonl"
        rows.write_lines(listed, refused.validated.rejected)
        raise DataError(f"{refused}\n  all of them: {listed}\n  Earlier stages are kept.") from None
    rows.write(work.folder / "rows.parquet", validated.kept)
    rows.write_lines(work.folder / "rejected.jsonl", validated.rejected)
    write_report(validated, work.report, names)
    tokens = sum(validated.lengths.kept_tokens)
    return work.seal(ValidDataset, rows=len(validated.kept), rejected=len(validated.rejected), tokens=tokens)
