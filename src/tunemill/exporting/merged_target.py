"""Ship the merged checkpoint as an ordinary folder of safetensors, for vLLM and transformers."""

import shlex
from pathlib import Path

from tunemill.exporting import safetensors_header
from tunemill.exporting.target import Shipment, Target
from tunemill.files import link


def write(shipment: Shipment, folder: Path) -> None:
    """Stamp the weights; configuration, tokenizer and chat template are the files that were merged."""
    files = sorted(path for path in (shipment.merged / "checkpoint").iterdir() if path.is_file())
    weights = [path for path in files if path.suffix == ".safetensors"]
    link((path for path in files if path not in weights), folder)
    for path in weights:
        safetensors_header.stamp(path, folder / path.name, shipment.facts)


def serve(folder: Path, name: str) -> tuple[str, ...]:
    """Give the command for vLLM."""
    return (f"vllm serve {shlex.quote(str(folder))} --served-model-name {shlex.quote(name)}",)


TARGET = Target(write, serve)
