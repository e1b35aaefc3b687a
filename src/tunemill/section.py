"""Say what a section is: a frozen, typed part of the configuration that can enter a key."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the YAML: unknown names are errors, values never change after loading.

    Fields that only say *where* something lies are marked `json_schema_extra=PLACE`; they never enter a key, so that
    moving or renaming a file re-runs nothing.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        populate_by_name=True,
        allow_inf_nan=False,
        validate_default=True,  # else a default of 0 enters a key as 0, and as 0.0 once it has travelled as JSON
    )

    def decisions(self) -> dict[str, Any]:
        """Give the values that a result depends on, JSON-ready, places left out."""
        return {
            name: _decisions(getattr(self, name))
            for name, field in type(self).model_fields.items()
            if field.json_schema_extra != PLACE
        }


PLACE: dict[str, Any] = {"place": True}


def _decisions(value: Any) -> Any:
    if isinstance(value, Section):
        return value.decisions()
    if isinstance(value, list | tuple):
        return [_decisions(item) for item in value]
    if isinstance(value, dict):
        return {key: _decisions(item) for key, item in value.items()}
    return value
