"""Keep what the rules on rows found in each source file, so that a dataset is summed up without reading rows again.

rows/<sha256 of the source>.parquet   kept rows, cleaned, from old to new; absent where none is kept
rejected.jsonl                        as they were read; absent where none is rejected
facts.json                            what each rule met, and the reasons with an example each
lengths.npy                           tokens, answer characters and whether it is kept, of every row
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tunemill import rows
from tunemill.rows import Rejected, Row

Integers = npt.NDArray[np.int32]
UNKNOWN = -1
"""Stands for the tokens of a row that could not be tokenised."""


class RuleFound(msgspec.Struct, frozen=True):
    """What one rule on rows met."""

    unexpected: int | None
    """Rows that do not meet it; None where it is about no single row, such as the type of a column."""
    success: bool
    observed: Any = None


class Reason(msgspec.Struct, frozen=True):
    """Rows that were rejected for the same first reason."""

    rows: int
    time: str
    """Of the example, "" where it has none."""
    example: Rejected
    """The oldest of them."""

    @property
    def place(self) -> tuple[str, str, int]:
        """Order reasons by their oldest row."""
        return (self.time, self.example.source, self.example.line)


class Facts(msgspec.Struct, frozen=True):
    """What the rules on rows found, in numbers."""

    kept: int
    rejected: int
    rules: list[RuleFound]
    """In the order of the suite."""
    reasons: list[Reason]
    """Most rows first."""

    @property
    def rows(self) -> int:
        """Rows that came in."""
        return self.kept + self.rejected


@dataclass(frozen=True)
class Lengths:
    """Lengths of rows; a row that could not be tokenised has no tokens."""

    table: Integers
    """(3, rows): tokens or -1, characters of the answer, and 1 where the row is kept."""

    @property
    def kept_tokens(self) -> Integers:
        """Tokens of the kept rows."""
        return self._of(0, kept=True)

    @property
    def rejected_tokens(self) -> Integers:
        """Tokens of the rejected rows that could be tokenised."""
        return self._of(0, kept=False)

    @property
    def kept_answer_characters(self) -> Integers:
        """Characters of the answers of the kept rows."""
        return self._of(1, kept=True)

    @property
    def rejected_answer_characters(self) -> Integers:
        """Characters of the answers of the rejected rows, 0 where empty."""
        return self._of(1, kept=False)

    @property
    def tokens(self) -> int:
        """Tokens of all kept rows together."""
        return int(self.kept_tokens.sum(dtype=np.int64))

    def _of(self, column: int, kept: bool) -> Integers:
        found: Integers = self.table[column, (self.table[2] == kept) & (self.table[column] != UNKNOWN)]
        return found


@dataclass(frozen=True)
class Found:
    """Every row that came in, kept or rejected, and what is known of them in numbers."""

    kept: list[Row]
    """Cleaned, from old to new."""
    rejected: list[Rejected]
    """As they were read, from old to new; `reason` is the first rule broken, `detail` names all with the values."""
    facts: Facts
    lengths: Lengths


def joined(parts: Sequence[Facts]) -> Facts:
    """Add up what was found in at least one part; all of them were checked by the same rules."""
    return Facts(
        kept=sum(part.kept for part in parts),
        rejected=sum(part.rejected for part in parts),
        rules=[_rule(found) for found in zip(*(part.rules for part in parts), strict=True)],
        reasons=ranked(reason for part in parts for reason in part.reasons),
    )


def ranked(reasons: Iterable[Reason]) -> list[Reason]:
    """Join reasons of the same words, most rows first, else the one with the oldest row."""
    by_words: dict[str, list[Reason]] = {}
    for one in reasons:
        by_words.setdefault(one.example.reason, []).append(one)
    whole = [
        msgspec.structs.replace(min(same, key=lambda one: one.place), rows=sum(one.rows for one in same))
        for same in by_words.values()
    ]
    return sorted(whole, key=lambda one: (-one.rows, one.place))


def joined_lengths(parts: Iterable[Lengths]) -> Lengths:
    """Put lengths one behind the other."""
    return Lengths(np.concatenate([np.empty((3, 0), np.int32), *(part.table for part in parts)], axis=1))


def joined_found(parts: Sequence[Found]) -> Found:
    """Join what was found in the pieces of one file, which come from old to new."""
    if len(parts) == 1:
        return parts[0]
    return Found(
        kept=[row for part in parts for row in part.kept],
        rejected=[one for part in parts for one in part.rejected],
        facts=joined([part.facts for part in parts]),
        lengths=joined_lengths(part.lengths for part in parts),
    )


def write(found: Found, folder: Path, source: str) -> None:
    """Write what was found in one source file."""
    if found.kept:
        (folder / "rows").mkdir()
        rows.write(folder / "rows" / f"{source}.parquet", found.kept)
    if found.rejected:
        rows.write_lines(folder / "rejected.jsonl", found.rejected)
    (folder / "facts.json").write_bytes(msgspec.json.encode(found.facts, enc_hook=str))
    np.save(folder / "lengths.npy", found.lengths.table)


def read_facts(folder: Path) -> Facts:
    """Read what the rules found in one source file."""
    return msgspec.json.decode((folder / "facts.json").read_bytes(), type=Facts)


def read_lengths(folder: Path) -> Lengths:
    """Read the lengths of the rows of one source file."""
    return Lengths(np.load(folder / "lengths.npy"))


def _rule(found: Sequence[RuleFound]) -> RuleFound:
    counts = [one.unexpected for one in found if one.unexpected is not None]
    shown = next((one for one in found if not one.success), found[0])
    unexpected = sum(counts) if len(counts) == len(found) else None
    return RuleFound(unexpected, all(one.success for one in found), shown.observed)
