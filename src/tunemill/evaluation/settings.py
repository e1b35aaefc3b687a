"""Say how a tuned model is tested: which metrics, against which few-shot prompt, with how much certainty."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from tunemill.evaluation.metrics import Metric
from tunemill.section import Section

PRIMARY_ORDER: tuple[Metric, ...] = (
    "field_accuracy",
    "token_f1",
    "exact_match",
    "rouge_l",
    "json_valid",
    "perplexity",
)
"""Which metric decides when none is named. `token_f1` stands before `exact_match`: on labels the two nearly agree, on
free text exact match is 0 for every arm and could decide nothing."""


class FewShotSettings(Section):
    """The opponent that costs no training: examples from the training rows put before the question."""

    k: Annotated[int, Field(ge=1, le=64)] = 4
    """Examples in the prompt."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides which training rows become examples, and in which order."""


class EvaluateSettings(Section):
    """Test on held-out rows: base, base with examples, tuned; same prompts, same greedy decoding."""

    metrics: Annotated[tuple[Metric, ...], Field(min_length=1)] = ("perplexity", "exact_match", "token_f1", "rouge_l")
    """What is measured; json_valid and field_accuracy are for answers that are JSON objects."""
    primary: Metric | None = None
    """The metric that the verdict rests on; left out, the first that is measured of field_accuracy, token_f1,
    exact_match, rouge_l, json_valid, perplexity."""
    fields: tuple[str, ...] = ()
    """Fields of the JSON answer that field_accuracy asks for."""
    few_shot: FewShotSettings = FewShotSettings()
    """The few-shot opponent."""
    max_new_tokens: Annotated[int, Field(ge=1, le=8192)] = 128
    """Tokens after which an answer is cut off; the same for every arm."""
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 16
    """Prompts in one forward pass; halved by itself when memory runs out."""
    max_rows: Annotated[int, Field(ge=1)] | None = None
    """Test on this many rows only, the first by content hash; left out, on all."""
    prompts: tuple[str, ...] = ()
    """Questions without a reference, answered by every arm side by side in the report."""
    system: str | None = None
    """System prompt before each of `prompts`."""
    confidence: Annotated[float, Field(ge=0.5, le=0.99)] = 0.95
    """Share of intervals that hold the true difference."""
    resamples: Annotated[int, Field(ge=1000, le=1_000_000)] = 2000
    """Resamples of the bootstrap, and of the sign-flip test."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the resamples."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("`metrics` names a metric twice")
        if self.primary is not None and self.primary not in self.metrics:
            raise ValueError(f"`primary` is {self.primary}, which is not in `metrics` ({', '.join(self.metrics)})")
        if "field_accuracy" in self.metrics and not self.fields:
            raise ValueError("`metrics` asks for field_accuracy; name the fields, for example `fields: [intent]`")
        if self.fields and "field_accuracy" not in self.metrics:
            raise ValueError("`fields` is given, but `metrics` does not ask for field_accuracy")
        return self

    @property
    def deciding(self) -> Metric:
        """The metric that the verdict rests on."""
        if self.primary is not None:
            return self.primary
        return next(name for name in PRIMARY_ORDER if name in self.metrics)
