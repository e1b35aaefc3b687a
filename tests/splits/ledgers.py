"""Write the ledger of a split that a test makes up."""

from collections.abc import Sequence
from pathlib import Path

from tunemill.dedup.bands import signed
from tunemill.rows import Row
from tunemill.splits import ledger
from tunemill.splits.ledger import SHINGLE, Entry


def write_ledger(folder: Path, rows: Sequence[Row], groups: Sequence[str]) -> None:
    """Write into the folder of a split that these rows train and stand in these groups."""
    for name in ("ledger", "prompts"):
        (folder / name).mkdir()
    named = zip(rows, groups, strict=True)
    entries = [Entry(r.row_id, r.source, r.line, group, "train", "", r.conversation, r.user) for r, group in named]
    ledger.write(folder, 0, ledger.table_of(entries), signed([""] * len(entries), 0.5, SHINGLE), 0.5)
