"""Say in the YAML which base model is tuned: one that a Python package carries, a folder, or a hub repository."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from tunemill.section import PLACE, Section

PackagedName = Literal["smollm2-135m-instruct"]

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


class ModelSettings(Section):
    """Name exactly one base model; two names, or none, are an error that lists the three ways."""

    packaged: PackagedName | None = None
    """A small model that comes as a pinned Python package, for tests and first steps."""
    folder: Path | None = Field(default=None, json_schema_extra=PLACE)
    """Folder with config.json, safetensors weights and tokenizer files, relative to the project root."""
    hub: str | None = None
    """Repository on the Hugging Face hub, as owner/name."""
    revision: str | None = None
    """Commit of that repository, 40 hex digits."""

    @field_validator("hub")
    @classmethod
    def _is_a_repository(cls, value: str | None) -> str | None:
        if value is not None and not _REPOSITORY.fullmatch(value):
            raise ValueError(f"{value!r} is not a repository; write owner/name, as in the address of its page")
        return value

    @field_validator("revision")
    @classmethod
    def _is_a_commit(cls, value: str | None) -> str | None:
        if value is not None and not _COMMIT.fullmatch(value):
            raise ValueError(
                f"{value!r} is not a commit of 40 hex digits; a branch or tag can move, and what was made from it "
                "could not be cached. Copy the full commit from the repository's history"
            )
        return value

    @model_validator(mode="after")
    def _names_one_model(self) -> Self:
        named = [name for name in ("packaged", "folder", "hub") if getattr(self, name) is not None]
        if len(named) != 1:
            found = " and ".join(named) or "none"
            raise ValueError(
                f"name exactly one base model, found {found}; write one of `packaged: smollm2-135m-instruct`, "
                "`folder: <path>`, or `hub: <owner/name>` with `revision: <commit>`"
            )
        if self.hub is not None and self.revision is None:
            raise ValueError(
                f"{self.hub} needs `revision:` with a commit of 40 hex digits; without it the files could change "
                "under the same name, and what was made from them could not be cached"
            )
        if self.hub is None and self.revision is not None:
            raise ValueError(f"`revision` belongs to `hub`; take it out beside `{named[0]}`")
        return self
