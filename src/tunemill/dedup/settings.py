"""Say when two rows count as the same."""

from typing import Annotated

from pydantic import Field

from tunemill.section import Section


class DeduplicateSettings(Section):
    """Which rows are dropped as copies of an older one."""

    near: bool = True
    """Whether rows that are only nearly the same are dropped too; without it normalised text must be equal."""
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Jaccard similarity of the two sets of shingles from which rows are duplicates, 1 meaning equal sets."""
    shingle: Annotated[int, Field(ge=2, le=20)] = 5
    """Characters in a shingle; texts shorter than that are duplicates only where they are identical."""
