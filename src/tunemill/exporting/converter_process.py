"""Run the converter in a process of its own: `python -m tunemill.exporting.converter_process job.json`."""

import logging
import os
import runpy
import sys
from pathlib import Path

from tunemill import child
from tunemill.errors import ModelError
from tunemill.section import Section

KEPT = 5
"""Last warnings and errors of the converter that a failure tells."""


class Job(Section):
    """Name the converter, what it reads and what it writes."""

    tools: Path
    checkpoint: Path
    out: Path
    name: str
    events: Path


class Last(logging.Handler):
    """Keep what the converter last complained of; it ends with `sys.exit(1)` where it does not raise."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines = [*self.lines, record.getMessage().strip()][-KEPT:]


def run(job: Job) -> None:
    """Convert to a 16-bit GGUF.

    Raises:
        ModelError: the converter failed; with its reason.
    """
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", CUDA_VISIBLE_DEVICES="")
    sys.dont_write_bytecode = True  # the converter's folder is verified file by file
    sys.path.insert(0, str(job.tools))  # its `gguf` goes before that of this environment
    arguments = ["--outtype", "f16", "--model-name", job.name, "--outfile", str(job.out), str(job.checkpoint)]
    last = Last()
    logging.getLogger().addHandler(last)
    logging.basicConfig(level=logging.INFO, force=False)
    script = next(job.tools.glob("convert_hf_to_gguf.py"))
    sys.argv = [script.name, *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as error:
        if error.code not in (0, None):
            raise _failed(last.lines or [f"it ended with status {error.code}"]) from error
    except Exception as error:
        raise _failed([*last.lines, f"{type(error).__name__}: {error}"]) from error
    if not job.out.is_file():
        raise _failed([*last.lines, "it wrote no file"])


def _failed(lines: list[str]) -> ModelError:
    said = "\n".join(f"    {line}" for text in lines for line in text.splitlines()[-KEPT:])
    return ModelError(
        f"the checkpoint could not be written as GGUF; llama.cpp's converter says:\n{said}\n"
        "  Leave the GGUF out of the export targets, or take a base model that llama.cpp knows."
    )


if __name__ == "__main__":
    asked = Job.model_validate_json(Path(sys.argv[1]).read_bytes())
    sys.exit(child.serve(asked.events, lambda emit: run(asked)))
