"""Form: what a person may choose when a run is started from Prefect's UI."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from tunemill.home import PROJECT

GLOBS = ("pipeline_configs/*.yaml", "examples/*/*.yaml")


def configurations() -> list[str]:
    """List the configurations of this project and of its examples."""
    return [str(path.relative_to(PROJECT)) for glob in GLOBS for path in sorted(PROJECT.glob(glob))]


Configuration = Annotated[
    str,
    Field(
        title="Configuration",
        description="One product's YAML file. A new file is offered here after the next deploy.",
        json_schema_extra={"enum": list[object](configurations())},
    ),
]


def _plain(schema: dict[str, Any]) -> None:
    """Let the form show one box for a field that may stay empty, not a choice between a number and nothing."""
    for field in schema["properties"].values():
        field |= next(kind for kind in field.pop("anyOf") if kind["type"] != "null")
        del field["default"]


class Change(BaseModel):
    """The settings that are changed most, for this run alone; what is left empty stays as the configuration says."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_plain)

    epochs: Annotated[float, Field(gt=0, le=1000)] | None = Field(None, description="How often each row is trained on.")
    max_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        None, description="Steps after which training ends, whatever the epochs."
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="Highest learning rate, after the warm-up; 2e-4 is usual for QLoRA."
    )
    rank: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Columns of each adapter matrix; memory grows linearly with it."
    )
    max_rows: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        None, description="Rows that are trained on at most, the newest first."
    )
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] | None = Field(
        None, description="Decides the adapter's first weights, the dropout and the order of the rows."
    )

    def overrides(self) -> list[str]:
        """Write what is set as overrides of the configuration."""
        return [f"{PLACES[name]}={value}" for name, value in self if value is not None]


PLACES = {
    "epochs": "train.epochs",
    "max_steps": "train.max_steps",
    "learning_rate": "train.learning_rate",
    "rank": "train.method.rank",
    "max_rows": "train.max_rows",
    "seed": "train.seed",
}
"""Field of the form → the setting that it changes."""


def run_name() -> str:
    """Name a flow run by its configuration and what is changed in it."""
    from prefect.runtime import flow_run

    given = flow_run.parameters
    changed = [f"{name}={value}" for name, value in dict(given.get("change") or {}).items() if value is not None]
    more = [f"({len(given['overrides'])} settings)"] if given.get("overrides") else []
    return " ".join([Path(given["config"]).stem, *changed, *more])
