"""Say what can be set about reading the raw files."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from tunemill.section import PLACE, Section
from tunemill.sources import FORMATS, detect
from tunemill.sources.answer_rules import AnswerRule
from tunemill.sources.closed import Closed
from tunemill.sources.hub_datasets import HubDataset
from tunemill.sources.mlflow_traces import TraceSettings
from tunemill.sources.where import Where


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


def _known(name: str) -> str:
    if name != "auto" and name not in FORMATS:
        raise ValueError(f"no such format; known are auto, {', '.join(FORMATS)}")
    return name


Name = Annotated[str, StringConstraints(min_length=1)]
Text = Annotated[str, StringConstraints(pattern=r"\S")]


class ColumnMap(Section):
    """Which column of a CSV file, or key of a JSON object, holds what.

    With `prompt` and `answer` a record becomes one question and its answer, and all other columns are passed over; a
    JSON object of a known shape that has neither of the two keeps its shape, so that a folder may hold a CSV and chats.
    Without them the record keeps its own shape, and the map only says where conversation, user, time and feedback are.
    A record that keeps its shape and has no such column is searched for the keys that are known without a map.

    Ids are strings or integers, times are strings (kept as they are, best ISO 8601) or numbers since 1970. A value of
    another type rejects the record where the column is named here, and is passed over and counted where it is not.
    """

    prompt: Name | None = None
    """Column of the user's turn."""
    input: Name | None = None
    """Column of a text that is added to the prompt after an empty line, where it is not empty."""
    answer: Name | None = None
    """Column of the assistant's turn."""
    system: Name | None = None
    """Column of the system prompt; a row where it is empty gets the `system` of the section, if there is one."""
    conversation: Name | None = None
    """Column of the conversation's id; else `conversation`, `conversation_id` or `session_id`."""
    user: Name | None = None
    """Column of the user's id; else `user`, `user_id` or `customer_id`."""
    time: Name | None = None
    """Column of the time of the row; else `time`, `timestamp` or `created_at`."""
    feedback: Name | None = None
    """Column of what a person thought of the answer: true, 1, up or false, 0, -1, down; empty where nobody said.

    Else `kto_tag`, `thumbs_up`, `liked` or `feedback`, or `label` where it is true or false.
    """

    @model_validator(mode="after")
    def _question_and_answer(self) -> "ColumnMap":
        if (self.prompt is None) != (self.answer is None):
            raise ValueError("`prompt` and `answer` are named together or not at all")
        if self.prompt is None and (self.input or self.system):
            raise ValueError("`input` and `system` are read only where `prompt` and `answer` are named")
        if not self.columns():
            raise ValueError("names no column; leave `map` out")
        return self

    def columns(self) -> dict[str, str]:
        """Give the columns that are named, by what they hold."""
        return {field: name for field in type(self).model_fields if (name := getattr(self, field)) is not None}


class IngestSettings(Section):
    """Read raw files, and keep every record as a row or as a rejected record with its reason."""

    files: Annotated[
        tuple[Name, ...],
        BeforeValidator(_listed, json_schema_input_type=str | list[str]),
        Field(json_schema_extra=PLACE),
    ] = ()
    """Files, folders and globs (`logs/**/*.jsonl`), relative to the project; plain, gzip or zstandard."""
    datasets: Annotated[
        tuple[HubDataset, ...],
        BeforeValidator(_listed, json_schema_input_type=HubDataset | list[HubDataset]),
        Field(json_schema_extra=PLACE),
    ] = ()
    """Datasets of the Hugging Face hub, read beside the files."""
    traces: Annotated[TraceSettings | None, Field(json_schema_extra=PLACE)] = None
    """Traces of a model in production, read beside the files."""
    closed: Annotated[Closed, Field(json_schema_extra=PLACE)] = Closed()
    """Which files of a folder or glob are still being written, and so are not read."""
    format: Annotated[str, AfterValidator(_known), Field(json_schema_extra={"enum": ["auto", *FORMATS]})] = "auto"
    """Format of all files; `auto` goes by the ending of each name, then by its first byte."""
    map: ColumnMap | None = None
    """Names of the columns, for files that have none of the known shapes."""
    system: Text | None = None
    """System prompt for every row that brings none of its own; a row's own is never replaced."""
    where: Where | None = None
    """Which records of a log are read; the others are passed over and counted, neither kept nor rejected."""
    thumbs_down: Literal["reject", "keep"] = "reject"
    """What becomes of a row whose answer a person disliked: rejected, or kept in `disliked/` beside the rows.

    Neither is trained on. The first answer of a preference pair is trained as any other.
    """
    answer_rules: tuple[AnswerRule, ...] = ()
    """Rules that an answer must keep, such as the format its prompt asks for; the first it breaks is the reason."""
    max_rejected: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of all records (kept and rejected, not passed over) that may be rejected; above it ingest stops.

    0 stops at the first rejected record, 1 never does.
    """
    max_line_bytes: Annotated[int, Field(ge=1, le=1 << 30)] = 8 << 20
    """Longest record in bytes: a line of JSONL, an element of a JSON array, a CSV record.

    A longer one is rejected without being held in memory; in CSV it ends the reading of the file, since where the next
    record begins cannot be known.
    """

    @model_validator(mode="after")
    def _some_source(self) -> "IngestSettings":
        if not self.files and not self.datasets and self.traces is None:
            raise ValueError("names no source; set `files`, `datasets` or `traces`")
        return self

    def of_one_file(self, path: Path) -> "IngestSettings":
        """Give what the reading of one file depends on: its format is told, and nothing is asked of all files.

        Raises:
            DataError: the format cannot be told.
        """
        form = detect(path) if self.format == "auto" else self.format
        return self.model_copy(update={"format": form, "max_rejected": 1.0})
