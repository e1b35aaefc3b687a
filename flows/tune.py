"""Tune: from three disjoint sets to an adapter and its verdict. Runs where the GPU is."""

from prefect import flow

from tasks.evaluate import evaluate
from tasks.located import located_model
from tasks.model import model, tokenizer
from tasks.train import train
from tunemill.artifacts import Adapter, Evaluation, Splits
from tunemill.config import PipelineConfig


@flow(flow_run_name="tune {config.name}")
def tune(config: PipelineConfig, splits: Splits) -> tuple[Adapter, Evaluation]:
    """Train an adapter and compare it with the base and with few-shot prompting."""
    source = located_model(config.model)
    words, base = tokenizer(source), model(source)
    adapter = train(base, words, splits, config.train)
    return adapter, evaluate(base, words, splits, adapter, config.evaluate)
