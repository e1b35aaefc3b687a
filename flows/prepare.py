"""Prepare: from the raw files to three disjoint sets. Needs no GPU."""

from prefect import flow

from tasks.deduplicate import deduplicate
from tasks.history import earlier_splits
from tasks.ingest import closed_files, ingest
from tasks.located import located_model
from tasks.model import tokenizer
from tasks.split import benchmark_files, split, warn_if_small
from tasks.validate import validate
from tunemill.artifacts import Splits
from tunemill.config import PipelineConfig


@flow(flow_run_name="prepare {config.name}")
def prepare(config: PipelineConfig) -> Splits:
    """Read, check, clean and deal the rows."""
    files = closed_files(config.ingest)
    raw = ingest(files, config.ingest)
    valid = validate(raw, tokenizer(located_model(config.model)), config.validation)
    clean = deduplicate(valid, config.deduplicate)
    dealt = split(clean, earlier_splits(files, config.split), benchmark_files(config.split), config.split)
    return warn_if_small(dealt, config.task_type)
