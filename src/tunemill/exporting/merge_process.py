"""Merge in a process of its own: `python -m tunemill.exporting.merge_process job.json`.

Written to `out`, none of it holding a time or a place, so that the same adapter gives the same bytes:
    checkpoint/   config.json, generation_config.json, safetensors, tokenizer and chat template
    merge.json    what was merged into what, and how much that changed
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tunemill import child
from tunemill.errors import ModelError
from tunemill.exporting.merge import (
    adapted_layers,
    form,
    matrices,
    merge_layers,
    require_change,
    require_same_layers,
    summary,
    without_adapters,
)
from tunemill.files import link
from tunemill.models.checkpoint import TRACES
from tunemill.models.sources import CONFIG, TOKENIZER_FILES, matching, read_json
from tunemill.section import Section
from tunemill.training.methods import Method, find_device, load_trained

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

GENERATION = "generation_config.json"

Emit = Callable[[dict[str, Any]], None]


class Job(Section):
    """Name everything a merge reads and where it writes."""

    model: Path
    """Folder of the base model."""
    tokenizer: Path
    """Folder of the tokenizer and its chat template."""
    adapter: Path
    """Folder of the trained adapter."""
    method: Method
    """How the adapter was trained: it decides the form of the base and the number format of the result."""
    out: Path
    """Folder to write to."""
    events: Path
    """File of JSON lines that tells how far it is."""
    max_shard_size: str = "5GB"
    """Largest safetensors file; a larger model is cut into several, with an index."""


def run(job: Job, emit: Emit) -> dict[str, Any]:
    """Merge, write every file and give what merge.json holds; `emit` hears of each layer and of the end.

    Raises:
        ModelError: the base cannot be loaded, the adapter is of another model, or not all was written.
        TrainingError: the adapter is incomplete, not finite, or changes nothing.
    """
    device = find_device()
    held = matrices(job.adapter)
    trained = _load(job, device)
    layers = [name for name, _ in adapted_layers(trained)]
    require_same_layers(held, layers)
    changes = []
    for change in merge_layers(trained):
        changes.append(change)
        emit({"event": "progress", "done": len(changes), "of": len(layers)})
    require_change(changes)
    model = without_adapters(trained)
    write(model, job.model, job.tokenizer, job.out / "checkpoint", job.max_shard_size)
    facts = {
        "base": form(job.method),
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": device.partition(":")[0],
        "parameters": model.num_parameters(),
        "trainable_parameters": sum(held.values()),
        **summary(changes),
    }
    (job.out / "merge.json").write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2) + b"\n")
    emit({"event": "done", **facts})
    return facts


def write(model: "PreTrainedModel", base: Path, tokenizer: Path, out: Path, max_shard_size: str) -> None:
    """Write an ordinary checkpoint, with the tokenizer's files and the base's generation defaults byte for byte.

    Raises:
        ModelError: the files hold another number of parameters than the model.
    """
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig()  # the base's own is not always one that transformers agrees to write
    model.save_pretrained(out, max_shard_size=max_shard_size)
    (out / GENERATION).unlink(missing_ok=True)
    link([*matching(base, (GENERATION,)), *matching(tokenizer, TOKENIZER_FILES)], out)
    config = {key: value for key, value in read_json(out / CONFIG).items() if key not in TRACES}
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (out / CONFIG).write_text(text, encoding="utf-8")
    for path in out.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors leaves it to its owner alone
    _require_whole(model, out)


def _load(job: Job, device: str) -> "PeftModel":
    try:
        return load_trained(job.model, job.method, job.adapter, device)
    except (ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "size mismatch" not in str(error):
            raise
        first = str(error).strip().splitlines()[:2]
        raise ModelError(f"merge: the adapter does not fit this base model: {' '.join(first)}") from error


def _require_whole(model: "PreTrainedModel", out: Path) -> None:
    """Count what was written: a tied embedding that came apart adds parameters, a lost tensor takes some away."""
    from safetensors import safe_open

    wanted = sum({tensor.data_ptr(): tensor.numel() for tensor in model.state_dict().values()}.values())
    found = 0
    for path in out.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    if found != wanted:
        raise ModelError(
            f"merge: {found:,} parameters were written and the model has {wanted:,}; transformers does not save this "
            "kind of model whole, so it cannot be exported"
        )


if __name__ == "__main__":
    job_file = Job.model_validate_json(Path(sys.argv[1]).read_bytes())
    sys.exit(child.serve(job_file.events, lambda emit: run(job_file, emit)))
