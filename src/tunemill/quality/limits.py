"""Say what validation found, and stop where the dataset as a whole may not be used."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tunemill.errors import DataError
from tunemill.quality.settings import ValidateSettings
from tunemill.rows import Rejected, Row


class ExpectationFact(msgspec.Struct, frozen=True):
    """One expectation with what came of it."""

    name: str
    type: str
    arguments: dict[str, Any]
    on: str
    """`rows`: rejects single rows; `dataset`: looks at the rows that are left and stops the run."""
    checked: int
    unexpected: int | None
    """Rows that do not meet it; None where it is about no single row."""
    success: bool
    observed: Any = None

    @property
    def stops(self) -> bool:
        """Whether the run may not go on: it is not met, and no row can be rejected for it."""
        return not self.success and (self.on == "dataset" or self.unexpected is None)


class Lengths(msgspec.Struct, frozen=True):
    """Lengths of kept and of rejected rows, from old to new; rows that could not be tokenised have no tokens."""

    kept_tokens: list[int]
    rejected_tokens: list[int]
    kept_answer_characters: list[int]
    rejected_answer_characters: list[int]


@dataclass(frozen=True)
class Validated:
    """Every row that came in, kept or rejected, and how each expectation fared."""

    kept: list[Row]
    """Cleaned, from old to new."""
    rejected: list[Rejected]
    """As they were read, from old to new; `reason` is the first rule broken, `detail` names all with the values."""
    expectations: list[ExpectationFact]
    lengths: Lengths
    settings: ValidateSettings

    @property
    def rows(self) -> int:
        """How many rows came in."""
        return len(self.kept) + len(self.rejected)


class DatasetRefused(DataError):
    """Stop because of the dataset as a whole; `validated` holds everything that was found."""

    def __init__(self, message: str, validated: Validated) -> None:
        super().__init__(message)
        self.validated = validated


def enforce(validated: Validated, file_names: Mapping[str, str]) -> None:
    """Raise DatasetRefused with the first limit that is broken: rejected share, rows left, dataset expectations."""
    settings, kept, rejected, rows = validated.settings, validated.kept, validated.rejected, validated.rows
    if len(rejected) > settings.max_rejected * rows:
        message = (
            f"validate: {len(rejected):,} of {rows:,} rows rejected ({len(rejected) / rows:.1%}); "
            f"the limit is {settings.max_rejected:.1%}\n"
            f"{reasons(rejected, file_names)}\n"
            "  Mend the file, change the rule, or raise validate.max_rejected"
        )
        raise DatasetRefused(message, validated)
    if len(kept) < settings.min_rows:
        raise DatasetRefused(
            f"validate: {len(kept):,} of {rows:,} rows left; at least {settings.min_rows:,} are needed\n"
            + (f"{reasons(rejected, file_names)}\n" if rejected else "")
            + "  Add rows, or lower validate.min_rows",
            validated,
        )
    failed = [fact for fact in validated.expectations if fact.stops]
    if failed:
        lines = [f"validate: the {len(kept):,} rows left do not meet {len(failed)} of the dataset's expectations"]
        lines += [f"  {fact.name}: {_found(fact)}" for fact in failed]
        raise DatasetRefused("\n".join([*lines, "  Mend the data, or change validate.expectations"]), validated)


def reasons(rejected: Sequence[Rejected], file_names: Mapping[str, str]) -> str:
    """Count the rejected rows by their first reason, one line each with an example's place, most first."""
    counts = Counter(one.reason for one in rejected)
    width = max(len(reason) for reason in counts)
    return "\n".join(
        f"  {count:>6,}  {reason:<{width}}  e.g. {place(first(rejected, reason), file_names)}"
        for reason, count in counts.most_common()
    )


def first(rejected: Sequence[Rejected], reason: str) -> Rejected:
    """Give the oldest record that was rejected for this reason."""
    return next(one for one in rejected if one.reason == reason)


def place(one: Rejected | Row, file_names: Mapping[str, str]) -> str:
    """Write where a record stands as `file:line`; the digest's first 12 digits where the name is not known."""
    return f"{file_names.get(one.source, one.source[:12])}:{one.line}"


def _found(fact: ExpectationFact) -> str:
    if fact.unexpected is not None:
        return f"{fact.unexpected:,} of {fact.checked:,} rows do not meet it"
    return f"observed {fact.observed}" if fact.observed is not None else "not met"
