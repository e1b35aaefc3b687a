"""Run one evaluation: `python -m tunemill.evaluation job.json`; the exit status is that of the error, 0 when done."""

import sys
import traceback
from pathlib import Path
from typing import Any

import orjson

from tunemill.errors import TunemillError
from tunemill.evaluation.job import Job, run


def main(path: Path) -> int:
    """Run the job in `path`, appending one JSON object a line to its events file."""
    job = Job.model_validate_json(path.read_bytes())
    with job.events.open("ab", buffering=0) as events:

        def emit(event: dict[str, Any]) -> None:
            events.write(orjson.dumps(event) + b"\n")

        try:
            run(job, emit)
        except Exception as error:
            emit({"event": "error", "kind": type(error).__name__, "message": str(error)})
            if isinstance(error, TunemillError):
                return error.exit_code
            traceback.print_exc()
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
