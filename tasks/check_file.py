"""Check the rows of one source file: the part of a validation that later nights hold."""

from pathlib import Path

from tasks.stage import stage
from tunemill import rows
from tunemill.artifacts import RowsFile, Tokenizer, ValidFile
from tunemill.models.chat import Chat
from tunemill.quality import expectations, found
from tunemill.quality.checkpoint import open_context
from tunemill.quality.columns import CountTokens
from tunemill.quality.found import Found
from tunemill.quality.settings import ValidateSettings
from tunemill.store import Work


@stage(makes=ValidFile, version=2, engines=("great_expectations", "tokenizers"))
def check_file(work: Work, file: RowsFile, tokenizer: Tokenizer, settings: ValidateSettings) -> ValidFile:
    """Run the rules on rows over one file; `settings` are those of `of_rows`.

    `validate` checks many files in one run and seals each by `keep`, since a run takes a second whatever it checks.
    """
    given = [(file.source, rows.read(Path(file.path)))]
    ((_, one),) = expectations.check(given, settings, counter(work, tokenizer), open_context(None))
    return seal(work, file.source, one)


def seal(work: Work, source: str, one: Found) -> ValidFile:
    """Write what was found in a file and seal it."""
    found.write(one, work.folder, source)
    return work.seal(ValidFile, rows=one.facts.kept, rejected=one.facts.rejected, tokens=one.lengths.tokens)


def counter(work: Work, tokenizer: Tokenizer) -> CountTokens:
    """Give what counts the tokens of a conversation under a tokenizer and its chat template."""
    chat = Chat(work.open(tokenizer))
    return lambda turns, tools: len(chat.encode(turns, tools).ids)
