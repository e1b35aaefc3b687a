"""Ship the adapter alone, for whoever has its base already."""

from pathlib import Path

import orjson

from tunemill.exporting import safetensors_header
from tunemill.exporting.target import Shipment, Target
from tunemill.files import link

CONFIG = "adapter_config.json"
BASE = "base_model_name_or_path"


def write(shipment: Shipment, folder: Path) -> None:
    """Stamp the weights, and name the base as others know it: PEFT may have noted a folder of this machine, or none."""
    files = sorted(path for path in (shipment.adapter / "adapter").iterdir() if path.is_file())
    link((path for path in files if path.suffix != ".safetensors" and path.name != CONFIG), folder)
    for path in files:
        if path.suffix == ".safetensors":
            safetensors_header.stamp(path, folder / path.name, shipment.facts)
    config = orjson.loads((shipment.adapter / "adapter" / CONFIG).read_bytes())
    named = orjson.dumps({**config, **_base(shipment.base)}, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    (folder / CONFIG).write_bytes(named + b"\n")


def serve(folder: Path, name: str) -> tuple[str, ...]:
    """Give no command: servers read the merged model."""
    return ()


def _base(name: str) -> dict[str, str | None]:
    """Give PEFT's two keys; a hub model's let `AutoPeftModelForCausalLM` find it at the commit that was trained on."""
    kind, _, where = name.partition(":")
    repository, _, commit = where.partition("@")
    return {BASE: repository, "revision": commit} if kind == "hub" else {BASE: name, "revision": None}


TARGET = Target(write, serve)
