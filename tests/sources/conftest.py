"""Write bytes to a file and read them as rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunemill.rows import PassedOver, Rejected, Row
from tunemill.sources import FileCounts, read
from tunemill.sources.settings import IngestSettings

DIGEST = "ab" * 32


class Reading:
    """What came of one file."""

    def __init__(self, path: Path, settings: IngestSettings) -> None:
        self.counts = FileCounts()
        self.all = list(read(path, DIGEST, settings, self.counts))
        self.rows = [found for found in self.all if isinstance(found, Row)]
        self.rejected = [found for found in self.all if isinstance(found, Rejected)]

    @property
    def passed(self) -> list[tuple[int, str]]:
        """Line and reason of each record that a filter left out."""
        return [(found.line, found.reason) for found in self.all if isinstance(found, PassedOver)]

    @property
    def reasons(self) -> list[tuple[int, str]]:
        """Line and reason of each rejected record."""
        return [(rejected.line, rejected.reason) for rejected in self.rejected]

    @property
    def turns(self) -> list[list[tuple[str, str]]]:
        """Role and content of each turn of each row."""
        return [[(turn.role, turn.content) for turn in row.messages] for row in self.rows]


@pytest.fixture
def reading(tmp_path: Path) -> Callable[..., Reading]:
    """Read the bytes of a file of that name; settings go by keyword."""

    def read_bytes(name: str, data: bytes, **settings: Any) -> Reading:
        path = tmp_path / name
        path.write_bytes(data)
        return Reading(path, IngestSettings(files=name, **settings))

    return read_bytes
