"""Release: from an adapter to files that are proven equal to it. Runs where the GPU is."""

from prefect import flow

from tasks.export import export
from tasks.located import located_model
from tasks.merge import merge
from tasks.model import model, tokenizer
from tasks.quantize import quantize
from tasks.verify import must_hold, verify
from tunemill.artifacts import Adapter, Evaluation, Exported, Splits, Verification
from tunemill.config import PipelineConfig


@flow(flow_run_name="release {config.name}")
def release(
    config: PipelineConfig, splits: Splits, adapter: Adapter, evaluation: Evaluation
) -> tuple[Exported, Verification]:
    """Merge, quantize, export and verify; only a fallback that was asked for may follow a failed proof."""
    source = located_model(config.model)
    words, base = tokenizer(source), model(source)
    merged = merge(base, words, adapter)
    for settings in config.quantize.tries():
        small = quantize(merged, settings)
        files = export(source, words, adapter, merged, small, evaluation, config.export)
        proof = verify(base, words, splits, adapter, evaluation, merged, small, files, config.quantize, config.verify)
        if not proof.counts["failed"]:
            break
    return files, must_hold(proof)
