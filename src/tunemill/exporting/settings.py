"""Say what ships: which files, and what a server that reads them is told."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tunemill.section import Section

TargetName = Literal["gguf", "merged", "adapter"]


class ExportSettings(Section):
    """Put the files that ship into one folder, each with its lineage."""

    targets: Annotated[tuple[TargetName, ...], Field(min_length=1)] = ("gguf", "merged", "adapter")
    """`gguf` for llama.cpp and Ollama (with a Modelfile), `merged` for vLLM and transformers, `adapter` for PEFT."""
    system: str | None = None
    """System prompt that Ollama puts before a conversation that has none; give the one that the training rows have.
    Left out, the model's own template decides."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0
    """Sampling temperature in the Modelfile; 0 is greedy decoding, with which the scores were measured."""

    @model_validator(mode="after")
    def _names_each_target_once(self) -> Self:
        if len(set(self.targets)) < len(self.targets):
            raise ValueError("`targets` names a target twice")
        if self.system is not None and not self.system.strip():
            raise ValueError("`system` is empty; leave it out")
        return self
