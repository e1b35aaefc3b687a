"""Prepare: from the raw files to three disjoint sets. Needs no GPU."""

from datetime import date

from prefect import flow

from tasks.deduplicate import deduplicate
from tasks.history import earlier_clean, earlier_splits
from tasks.ingest import closed_files, ingest
from tasks.located import located_model
from tasks.model import tokenizer
from tasks.night import night_files, split_before
from tasks.page import page, show
from tasks.split import benchmark_files, split, warn_if_small
from tasks.validate import validate
from tunemill.artifacts import Splits
from tunemill.config import PipelineConfig
from tunemill.quality.page_settings import Task


@flow(flow_run_name="prepare {config.name}")
def prepare(config: PipelineConfig, night: date | None = None) -> Splits:
    """Read, check, clean and deal the rows of the files that are closed now, or that a night has taken."""
    files = night_files(config.name, night) if night else closed_files(config.ingest)
    raw = ingest(files, config.ingest)
    words = tokenizer(located_model(config.model))
    valid = validate(raw, words, config.validation)
    clean = deduplicate(valid, earlier_clean(valid, config.deduplicate), config.deduplicate)
    before = earlier_splits(files, config.split, split_before(config.name, night) if night else None)
    splits = split(clean, before, benchmark_files(config.split), config.split)
    show(page(raw, valid, words, clean, splits, config.page, Task(type=config.task_type)))
    return warn_if_small(splits, config.task_type)
