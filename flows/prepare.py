"""Prepare: from the raw files to three disjoint sets. Needs no GPU."""

from prefect import flow

from tasks.deduplicate import deduplicate
from tasks.ingest import closed_files, ingest
from tasks.located import located_model
from tasks.model import tokenizer
from tasks.split import split, warn_if_small
from tasks.validate import validate
from tunemill.artifacts import Splits
from tunemill.config import PipelineConfig


@flow(flow_run_name="prepare {config.name}")
def prepare(config: PipelineConfig) -> Splits:
    """Read, check, clean and deal the rows."""
    raw = ingest(closed_files(config.ingest), config.ingest)
    valid = validate(raw, tokenizer(located_model(config.model)), config.validation)
    clean = deduplicate(valid, config.deduplicate)
    return warn_if_small(split(clean, config.split), config.task_type)
