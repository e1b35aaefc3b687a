"""Say how far a file that ships may lie from the adapter as it was trained.

Noise floors were measured on the quickstart's model and data (SmolLM2-135M, 32 test rows, 1,024 positions, 2 cores):
the adapter against itself, run row by row on its base written out in 16 bits; for a GGUF its own as well, computed in
smaller batches. Every run measures its own again and prints it beside the bound.
"""

from typing import Annotated

from pydantic import Field

from tunemill.section import Section

Share = Annotated[float, Field(ge=0, le=1)]
Divergence = Annotated[float, Field(ge=0, le=10)]


class MergedBounds(Section):
    """Bounds of the merged model in 16 bits: it differs from the adapter by rounding alone."""

    top1: Share = 0.98
    """Least share of positions at which both think the same token most likely (noise floor 0.999)."""
    divergence: Divergence = 0.005
    """Largest mean Kullback-Leibler divergence from the adapter, in nats per token (noise floor 0.0002)."""
    same_text: Share = 0.9
    """Least share of greedy answers that are the same text (noise floor 0.97)."""
    score_loss: Share = 0.03
    """Most that the evaluation's metric may lose, as a mean over the rows (noise floor 0.03, one row)."""
    stops: Share = 0.97
    """Least share of answers that end, or are cut off, as the adapter's (noise floor 1.0)."""


class GgufBounds(Section):
    """Bounds of the quantized file: it loses a little of everything, and its answers are scored for themselves."""

    top1: Share = 0.85
    """Least share of positions at which both think the same token most likely (noise floor 0.992)."""
    divergence: Divergence = 0.1
    """Largest mean Kullback-Leibler divergence from the adapter, in nats per token (noise floor 0.002)."""
    same_text: Share = 0.5
    """Least share of greedy answers that are the same text (noise floor 0.97)."""
    score_loss: Share = 0.05
    """Most that the evaluation's metric may lose, as a mean over the rows (noise floor 0.03, one row)."""
    stops: Share = 0.95
    """Least share of answers that end, or are cut off, as the adapter's (noise floor 1.0)."""


Bounds = MergedBounds | GgufBounds


class VerifySettings(Section):
    """Prove that the files that ship answer as the adapter did; a bound that is left out has its default."""

    prompts: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Fewest test prompts on which everything is compared; fewer test rows fail the proof."""
    positions: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    """Fewest token positions at which next-token distributions are compared."""
    merged: MergedBounds = MergedBounds()
    """Over any of them the run stops with exit status 4 and publishes nothing."""
    gguf: GgufBounds = GgufBounds()
    """Over any of them `quantize.fallback` is tried where it is given; else the run stops in the same way."""
