"""Say how far a file that ships may lie from the adapter as it was trained.

Noise floors were measured on the quickstart's model and data (SmolLM2-135M, 32 test rows, 1,024 positions, 2 cores):
the adapter against itself, run row by row on its base written out in 16 bits; for a GGUF its own as well, computed in
smaller batches. Every run measures its own again and prints it beside the bound.
"""

from typing import Annotated

from pydantic import Field

from tunemill.section import Section

Share = Annotated[float, Field(ge=0, le=1)]


class Bounds(Section):
    """Bounds for one kind of file; over any of them the run stops with exit status 4 and publishes nothing."""

    top1: Share
    """Least share of positions at which both think the same token most likely (noise floor 0.999)."""
    divergence: Annotated[float, Field(ge=0, le=10)]
    """Largest mean Kullback-Leibler divergence from the adapter, in nats per token (noise floor 0.0002)."""
    same_text: Share
    """Least share of greedy answers that are the same text (noise floor 0.97)."""
    score_loss: Share
    """Most that the evaluation's metric may lose, as a mean over the rows (noise floor 0.03, one row)."""
    stops: Share
    """Least share of answers that end by themselves or are cut off just as the adapter's are (noise floor 1.0)."""


class VerifySettings(Section):
    """Prove that the files that ship answer as the adapter did; a bound that is left out has its default."""

    prompts: Annotated[int, Field(ge=1, le=100_000)] = 32
    """Fewest test prompts on which everything is compared; fewer test rows fail the proof."""
    positions: Annotated[int, Field(ge=1, le=10_000_000)] = 1000
    """Fewest token positions at which next-token distributions are compared."""
    merged: Bounds = Bounds(top1=0.98, divergence=0.005, same_text=0.9, score_loss=0.03, stops=0.97)
    """The merged model in 16 bits: it differs from the adapter by rounding alone."""
    gguf: Bounds = Bounds(top1=0.85, divergence=0.1, same_text=0.5, score_loss=0.05, stops=0.95)
    """The quantized file: it loses a little of everything, and its answers are scored for themselves."""
