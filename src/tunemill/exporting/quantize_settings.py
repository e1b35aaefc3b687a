"""Say in how few bits the GGUF that ships holds its weights."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tunemill.exporting.llama import QuantizationType
from tunemill.section import PLACE, Section


class QuantizeSettings(Section):
    """Quantize the merged model for llama.cpp and Ollama."""

    method: QuantizationType = "q4_k_m"
    """Number format of most weights; rows that are no multiple of 256 weights fall back to wider types."""
    fallback: Annotated[Literal["q8_0"] | None, Field(json_schema_extra=PLACE)] = None
    """What ships instead where `method` fails verification; the verdict names it. Left out, a failure stops the run."""

    @model_validator(mode="after")
    def _falls_back_to_something_else(self) -> Self:
        if self.fallback == self.method:
            raise ValueError(f"`fallback` is `method` ({self.method}); leave it out")
        return self

    def tries(self) -> list["QuantizeSettings"]:
        """Give what is tried in order: as asked, then the fallback."""
        return [self] if self.fallback is None else [self, self.model_copy(update={"method": self.fallback})]
