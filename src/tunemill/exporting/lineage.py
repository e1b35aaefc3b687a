"""Say in a few texts what a file that ships was made from, and read them back from the file."""

from collections.abc import Mapping
from pathlib import Path

import orjson

from tunemill.exporting import gguf, safetensors_header
from tunemill.models.sources import ModelSource
from tunemill.store import Manifest

PREFIX = "tunemill."
FILE = "lineage.json"


def facts(chain: Mapping[str, Manifest], source: ModelSource, run: str, verdict: str, version: str) -> dict[str, str]:
    """Tell a model's origin; keys begin with `tunemill.`, and no value is a place on a machine.

    Args:
        chain: stage → manifest of everything that went into it; `split` must be among them.
        run: id of the pipeline run.
        verdict: what the evaluation said.
    """
    found = {
        "run": run,
        "dataset": chain["split"].digest,
        "base": base_name(source),
        "verdict": verdict,
        "version": version,
        **{f"key.{stage}": manifest.key for stage, manifest in chain.items()},
    }
    return {f"{PREFIX}{name}": found[name] for name in sorted(found)}


def base_name(source: ModelSource) -> str:
    """Name a base model such that another machine knows it; of a folder that is its digest alone."""
    if source.kind == "hub":
        return f"hub:{source.where}"
    if source.kind == "packaged":
        return f"packaged:{source.where} sha256:{source.digest}"
    return f"folder sha256:{source.digest}"


def read(path: Path) -> dict[str, str]:
    """Give the facts that a file carries, or that stand beside it or one folder up; {} where there are none.

    Raises:
        ModelError: it is a GGUF or safetensors file that is damaged.
    """
    if path.suffix == ".gguf":
        found = {f"{PREFIX}{name}": value for name, value in gguf.facts(path).items()}
    elif path.suffix == ".safetensors":
        found = {key: value for key, value in safetensors_header.metadata(path).items() if key.startswith(PREFIX)}
    else:
        found = {}
    beside = (folder / FILE for folder in (path.parent, path.parent.parent))
    file = None if found else next((each for each in beside if each.is_file()), None)
    return dict(orjson.loads(file.read_bytes())) if file else found
