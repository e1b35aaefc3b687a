"""Run one evaluation: `python -m tunemill.evaluation job.json`; the exit status is that of the error, 0 when done."""

import sys
from pathlib import Path

from tunemill import child
from tunemill.evaluation.job import Job, run


def main(path: Path) -> int:
    """Run the job in `path`, appending one JSON object a line to its events file."""
    job = Job.model_validate_json(path.read_bytes())
    return child.serve(job.events, lambda emit: run(job, emit))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
