"""Say when two rows count as the same."""

from typing import Annotated, Literal

from pydantic import Field

from tunemill.section import Section

ContradictionRule = Literal["keep", "newest", "majority", "drop"]


class DeduplicateSettings(Section):
    """Which rows are dropped as copies of an older one."""

    near: bool = True
    """Whether rows that are only nearly the same are dropped too; without it normalised text must be equal."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Jaccard similarity of the two sets of shingles from which rows are duplicates, 1 meaning equal sets."""
    shingle: Annotated[int, Field(ge=2, le=20)] = 5
    """Characters in a shingle; texts shorter than that are duplicates only where they are identical."""
    contradictions: ContradictionRule = "keep"
    """What is done where one prompt (all turns before the last answer, normalised) has different answers. `keep`: the
    rule drops none, since free text may answer well in more than one way; a warning gives their number. `newest`: the
    answer of the newest row stays. `majority`: the answer that most rows give; of those with as many, the one with the
    newest row. `drop`: none stays. Each row is listed in contradictions.jsonl with what became of it, whatever the
    rule. Newer is the later time as text; a row without one is older than all that have one, and among such rows the
    file's digest and the line decide."""
