"""Tell whoever watches how the training goes: one JSON object a line, and a line of text for people."""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson


class Events:
    """Append to the events file; each event is one write, so that a kill leaves whole lines.

    A training that goes on after a kill may tell a step again; the later line counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def tell(self, event: str, text: str = "", **facts: Any) -> None:
        """Append one event; print `text` for a person where there is any."""
        line = orjson.dumps({"event": event, "at": round(time.time(), 3), **facts}, option=orjson.OPT_SERIALIZE_NUMPY)
        os.write(self._file, line + b"\n")
        if text:
            print(text, flush=True)


def span(seconds: float) -> str:
    """Write a time for people: 42 s, 12 min, 3 h 05 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
