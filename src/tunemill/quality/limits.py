"""Say what validation found, and stop where the dataset as a whole may not be used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tunemill.errors import DataError
from tunemill.quality.found import Facts, Lengths, Reason
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


@dataclass(frozen=True)
class Summary:
    """What validation found of a dataset, in numbers."""

    facts: Facts
    expectations: list[ExpectationFact]
    lengths: Lengths
    settings: ValidateSettings


@dataclass(frozen=True)
class Validated:
    """Every row that came in, kept or rejected, and how each expectation fared."""

    kept: list[Row]
    """Cleaned, from old to new."""
    rejected: list[Rejected]
    """As they were read, from old to new; `reason` is the first rule broken, `detail` names all with the values."""
    summary: Summary


class DatasetRefused(DataError):
    """Stop because of the dataset as a whole."""


def enforce(summary: Summary, file_names: Mapping[str, str]) -> None:
    """Raise DatasetRefused with the first limit that is broken: rejected share, rows left, dataset expectations."""
    settings, facts = summary.settings, summary.facts
    if facts.rejected > settings.max_rejected * facts.rows:
        raise DatasetRefused(
            f"validate: {facts.rejected:,} of {facts.rows:,} rows rejected ({facts.rejected / facts.rows:.1%}); "
            f"the limit is {settings.max_rejected:.1%}\n"
            f"{_listed(facts.reasons, file_names)}\n"
            "  Mend the file, change the rule, or raise validate.max_rejected"
        )
    if facts.kept < settings.min_rows:
        raise DatasetRefused(
            f"validate: {facts.kept:,} of {facts.rows:,} rows left; at least {settings.min_rows:,} are needed\n"
            + (f"{_listed(facts.reasons, file_names)}\n" if facts.reasons else "")
            + "  Add rows, or lower validate.min_rows"
        )
    failed = [fact for fact in summary.expectations if fact.stops]
    if failed:
        lines = [f"validate: the {facts.kept:,} rows left do not meet {len(failed)} of the dataset's expectations"]
        lines += [f"  {fact.name}: {_found(fact)}" for fact in failed]
        raise DatasetRefused("\n".join([*lines, "  Mend the data, or change validate.expectations"]))


def place(one: Rejected | Row, file_names: Mapping[str, str]) -> str:
    """Write where a record stands as `file:line`; the digest's first 12 digits where the name is not known."""
    return f"{file_names.get(one.source, one.source[:12])}:{one.line}"


def _listed(reasons: Sequence[Reason], file_names: Mapping[str, str]) -> str:
    """Write one line for each reason, with an example's place."""
    width = max(len(one.example.reason) for one in reasons)
    return "\n".join(
        f"  {one.rows:>6,}  {one.example.reason:<{width}}  e.g. {place(one.example, file_names)}" for one in reasons
    )


def _found(fact: ExpectationFact) -> str:
    if fact.unexpected is not None:
        return f"{fact.unexpected:,} of {fact.checked:,} rows do not meet it"
    return f"observed {fact.observed}" if fact.observed is not None else "not met"
