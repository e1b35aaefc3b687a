"""Split: one clean dataset becomes train, validation and test.

A group (conversation, user, near-duplicate cluster) goes to one side as a whole.
"""

import msgspec
import orjson

from tasks.run import Run
from tasks.stage import stage
from tunemill import rows, splits
from tunemill.artifacts import CleanDataset, Splits
from tunemill.quality.sizes import TaskType, size_warning
from tunemill.splits import SplitSettings
from tunemill.store import Work


@stage(makes=Splits, version=4)
def split(work: Work, clean: CleanDataset, settings: SplitSettings) -> Splits:
    """Deal every row of `clean` to exactly one of three files, with a certificate that nothing leaks."""
    parts, certificate = splits.split(rows.read(work.open(clean) / "rows.parquet"), settings)
    for name, part in parts.items():
        rows.write(work.folder / f"{name}.parquet", part)
    facts = orjson.dumps(msgspec.to_builtins(certificate), option=orjson.OPT_INDENT_2)
    (work.folder / "certificate.json").write_bytes(facts)
    return work.seal(Splits, **{name: len(part) for name, part in parts.items()})


def warn_if_small(made: Splits, task_type: TaskType) -> Splits:
    """Warn where there are fewer training rows than the course asks for; give the splits on."""
    if text := size_warning(task_type, made.counts["train"]):
        Run.current().warn(text)
    return made
