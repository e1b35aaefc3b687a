"""Say what a row must look like to be kept, and what the dataset must look like to go on."""

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from tunemill.section import Section

RoleOrder = Literal["alternating", "free"]


class Whitespace(Section):
    """What is done to the white space of every turn before anything is measured."""

    strip: bool = True
    """Line endings become LF; white space at the end of lines and of the text goes. Indentation stays."""
    collapse: bool = False
    """Every run of white space, line breaks too, becomes one space, as in the course. This destroys code, tables,
    lists and YAML: switch it on for running prose only."""


class ExpectationSettings(Section):
    """One Great Expectations rule: its registered name, then its own arguments as further settings.

    An expectation on single rows rejects the rows that fail it. One on the whole dataset (a row count, the mean of a
    column) and one with `mostly` below 1 reject nothing: they are checked on the rows that are left, and stop the run
    when they fail. Columns: see `tunemill.quality.columns.COLUMNS`.
    """

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(pattern=r"^expect_[a-z0-9_]+$")]
    """Name in snake case, e.g. `expect_column_values_to_match_regex`; the arguments stand beside it."""
    reason: Annotated[str, Field(min_length=1)] | None = None
    """What rejected rows are told, e.g. "`answer` holds a phone number"; made from the arguments where left out."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The settings that go to Great Expectations as they are."""
        return dict(self.model_extra or {})

    @property
    def name(self) -> str:
        """The reason, or the type and its arguments in words."""
        if self.reason is not None:
            return self.reason
        columns, others = self.columns, {k: v for k, v in self.arguments.items() if not k.startswith("column")}
        subject = " and ".join(f"`{column}`" for column in columns) or "dataset"
        words = self.type.removeprefix("expect_").removeprefix("column_").removeprefix("table_").replace("_", " ")
        limits = ", ".join(f"{name} {str(value)[:80]}" for name, value in others.items())
        return f"{subject}: expected {words}" + (f" ({limits})" if limits else "")

    @property
    def columns(self) -> list[str]:
        """The columns that the arguments name, in their order."""
        given = self.arguments
        single = [given[name] for name in ("column", "column_A", "column_B") if name in given]
        return [str(column) for column in (*single, *given.get("column_list", ()))]

    def decisions(self) -> dict[str, Any]:
        """Give the arguments too: they decide which rows are kept, so they belong into the key."""
        return {**super().decisions(), **self.arguments}


class ValidateSettings(Section):
    """Rules of the validate stage; the built-in ones come first, then `expectations` in their order."""

    min_answer_characters: Annotated[int, Field(ge=1)] = 50
    """Shortest last answer, in characters; 50 is the course's value. An empty answer is never kept."""
    max_answer_characters: Annotated[int, Field(ge=1)] | None = None
    """Longest last answer, in characters; no limit where left out."""
    max_tokens: Annotated[int, Field(ge=1)] = 2048
    """Longest conversation, in tokens of the base model's own tokenizer and chat template."""
    min_prompt_characters: Annotated[int, Field(ge=0)] = 1
    """Shortest prompt (all user turns together), in characters; 0 also lets empty turns through."""
    whitespace: Whitespace = Whitespace()
    roles: RoleOrder = "alternating"
    """`alternating`: system first or not at all, then user and assistant in turn, tool results only after an
    assistant turn, an answer at the end. `free`: any order that ends with an answer."""
    max_rejected: Annotated[float, Field(ge=0, le=1)] = 0.3
    """Largest share of rows that may be rejected; above it the run stops."""
    min_rows: Annotated[int, Field(ge=1)] = 10
    """Fewest rows that must be left; below it the run stops."""
    expectations: tuple[ExpectationSettings, ...] = ()
    """Further rules by their Great Expectations name."""

    @model_validator(mode="after")
    def _lengths_leave_room(self) -> Self:
        if self.max_answer_characters is not None and self.max_answer_characters < self.min_answer_characters:
            raise ValueError(
                f"max_answer_characters {self.max_answer_characters:,} is below "
                f"min_answer_characters {self.min_answer_characters:,}: every row would be rejected"
            )
        return self
