"""Measure a piece of work in CPU seconds and wall seconds, in a process of its own."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

Measures = dict[str, Any]


class Clock:
    """Collect what pieces of work took, by name, beside whatever else is known of the run."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, float]] = {}

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Add the CPU and wall seconds of a block."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        spent = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        self.parts[name] = {unit: round(seconds, 4) for unit, seconds in spent.items()}

    def report(self, **known: Any) -> Measures:
        """Give the parts, what else is known, and the most memory that this process held, in MB."""
        return {"parts": self.parts, **known, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def in_child(command: Sequence[str], limit: float) -> Measures:
    """Run a command whose last line is JSON; what fails or takes longer than `limit` seconds is said, not raised."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit:,.0f} s"}
    if done.returncode != 0:
        print(done.stderr[-2_000:], file=sys.stderr)
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return {"failed": f"exit {done.returncode}: {last[0][:200]}"}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))
