"""Split: one clean dataset becomes train, validation and test.

A group (conversation, user, near-duplicate cluster) goes to one side as a whole.
"""

import msgspec
import orjson

from tasks.stage import stage
from tunemill import rows, splits
from tunemill.artifacts import CleanDataset, Splits
from tunemill.splits import SplitSettings
from tunemill.store import Work


@stage(makes=Splits, version=2)
def split(work: Work, clean: CleanDataset, settings: SplitSettings) -> Splits:
    """Deal every row of `clean` to exactly one of three files, with a certificate that nothing leaks."""
    parts, certificate = splits.split(rows.read(work.open(clean) / "rows.parquet"), settings)
    for name, part in parts.items():
        rows.write(work.folder / f"{name}.parquet", part)
    facts = orjson.dumps(msgspec.to_builtins(certificate), option=orjson.OPT_INDENT_2)
    (work.folder / "certificate.json").write_bytes(facts)
    return work.seal(Splits, **{name: len(part) for name, part in parts.items()})
