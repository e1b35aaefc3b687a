"""Say how a model is tuned: method, length, rate, batch, what is measured on the way and when it stops.

Where a default says "Guanaco 7B", it is that of the QLoRA authors' own script for a 7B model (artidoro/qlora,
scripts/finetune_guanaco_7b.sh; paper: arXiv 2305.14314). All of that script can be asked for here.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tunemill.section import Section
from tunemill.training.methods import Method, QLora

Optimizer = Literal["auto", "adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit"]


class EarlyStopping(Section):
    """Stop when the validation loss has stopped falling."""

    patience: Annotated[int, Field(ge=1, le=1000)] = 3
    """Evaluations in a row without a new lowest loss after which training stops."""
    min_delta: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Nats per token by which a loss must be lower than the lowest one before to count as new."""


class TrainSettings(Section):
    """Train an adapter on the assistant's tokens; `batch_size` × `accumulation` rows make one step."""

    method: Method = QLora()
    """`qlora` (4-bit base) or `lora` (16-bit base), with its rank and targets."""
    epochs: Annotated[float, Field(gt=0, le=1000)] = 3.0
    """How often each row is trained on; a fraction takes that share of the rows."""
    max_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Steps after which training ends though `epochs` would go on; left out, `epochs` alone decides."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 2e-4
    """Highest rate, after the warm-up (Guanaco 7B: 2e-4). The QLoRA authors halve it above 13B."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate goes on after the warm-up: down to 0 as a cosine or a line, or unchanged (Guanaco 7B)."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] = 0.03
    """Share of the steps in which the rate climbs from 0 (Guanaco 7B: 0.03)."""
    warmup_steps: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Steps in which the rate climbs from 0, instead of `warmup_ratio`."""
    batch_size: Annotated[int, Field(ge=1, le=4096)] = 4
    """Rows in one forward pass (Guanaco 7B: 4); with `packing`, packs. Halve it when memory runs out."""
    accumulation: Annotated[int, Field(ge=1, le=4096)] = 4
    """Forward passes summed into one step (Guanaco 7B: 4). Double it when `batch_size` is halved: same result."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1000)] = 0.3
    """Length to which a longer gradient is cut (Guanaco 7B: 0.3)."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of each adapter weight taken off per step and unit of rate (Guanaco 7B: 0)."""
    optimizer: Optimizer = "auto"
    """AdamW in its variants; `auto` is paged_adamw_8bit on a GPU and adamw_torch on a CPU."""
    max_tokens: Annotated[int, Field(ge=16, le=1_048_576)] = 2048
    """Longest row, in tokens of its whole conversation. No row is ever cut: a longer one is left out and named."""
    max_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Rows that are trained on at most, the newest first: groups in the order of their newest rows, each as a whole,
    the last one by its newest rows. Bounds what a night costs however many rows are held; left out, all rows train."""
    max_cut_answers: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the rows that may be left out because `max_tokens` would cut their answer; above it nothing starts."""
    packing: bool = False
    """Put short rows end to end up to `max_tokens`, each seeing only itself. Faster on a GPU when most rows are
    short; before the first step the model is tested on whether it keeps them apart."""
    gradient_checkpointing: Literal["auto"] | bool = "auto"
    """Compute activations twice instead of keeping them: less memory, slower. `auto` is on for a GPU only."""
    evaluate_every: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Steps between two measurements of the validation loss; left out, ten measurements over the training."""
    save_every: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """Steps between two checkpoints: what a kill costs at most. Every new best is saved besides."""
    keep_checkpoints: Annotated[int, Field(ge=2, le=1000)] = 2
    """Newest checkpoints that are kept beside the best one; 2, so that one can be damaged."""
    early_stopping: EarlyStopping | None = EarlyStopping()
    """When to stop before all steps are done; null never stops early. Without validation rows nothing is measured."""
    logging_every: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Steps between two lines of progress; a loss that is not finite is noticed at every step all the same."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Decides the adapter's first weights, the dropout and the order of the rows."""

    @field_validator("method", mode="before")
    @classmethod
    def _is_qlora_where_not_named(cls, value: Any) -> Any:
        return {"kind": "qlora", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _warms_up_within_the_training(self) -> Self:
        if self.max_steps is not None and (self.warmup_steps or 0) >= self.max_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} leaves nothing of max_steps={self.max_steps}; "
                "lower warmup_steps below max_steps"
            )
        return self

    @property
    def rows_per_step(self) -> int:
        """Rows (with `packing`, packs) that one step learns from."""
        return self.batch_size * self.accumulation
