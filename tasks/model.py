"""Model: the base model's tokenizer and weights, each an artifact of its own.

They are two stages because validation depends on the tokenizer alone: other weights re-validate nothing.
"""

from tasks.stage import stage
from tunemill.artifacts import BaseWeights, Tokenizer
from tunemill.home import Home
from tunemill.models.checkpoint import write_tokenizer, write_weights
from tunemill.models.sources import ModelSource
from tunemill.store import Work


@stage(makes=Tokenizer, version=1, engines=("transformers",))
def tokenizer(work: Work, source: ModelSource) -> Tokenizer:
    """Write the tokenizer with its chat template, in one form for every kind of source."""
    write_tokenizer(source, Home.find().root, work.folder)
    return work.seal(Tokenizer)


@stage(makes=BaseWeights, version=1, engines=("transformers",))
def model(work: Work, source: ModelSource) -> BaseWeights:
    """Write the weights as safetensors with their configuration."""
    write_weights(source, Home.find().root, work.folder)
    return work.seal(BaseWeights)
