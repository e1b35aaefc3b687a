"""Find a base model and say by digest what it is made from, without loading it.

A folder may hold only data: weights in safetensors, and JSON or text beside them. Pickles and Python files can run code
when a model is loaded, so a folder that has one is refused.
"""

import fnmatch
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import Field

from tunemill.errors import ModelError
from tunemill.models.packaged import WHEELS
from tunemill.models.settings import ModelSettings
from tunemill.section import PLACE, Section

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
)
"""What a tokenizer is read from; config.json beside them says which class reads them."""
WEIGHT_FILES = ("generation_config.json", "model.safetensors", "model-*.safetensors", INDEX)
CODE_FILES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.py")


class ModelSource(Section):
    """A base model that was found; the digest is its identity, the rest only leads to it."""

    kind: Literal["packaged", "folder", "hub"]
    digest: str
    """sha256 over what the model is made from, 64 hex digits."""
    where: str = Field(json_schema_extra=PLACE)
    """Name of the packaged model, absolute folder, or owner/name@commit."""
    files: dict[str, str] = Field(default={}, json_schema_extra=PLACE)
    """For a folder: sha256 of each file that counts, so that a change during a run is seen."""


def locate(settings: ModelSettings, root: Path, digest_of: Callable[[Path], str]) -> ModelSource:
    """Say what the model is made from; a folder counts from `root`, each of its files is hashed with `digest_of`.

    Raises:
        ModelError: the folder lacks a file, or holds one that can run code.
    """
    if settings.packaged is not None:
        return ModelSource(kind="packaged", digest=WHEELS[settings.packaged].sha256, where=settings.packaged)
    if settings.folder is None:
        name = f"{settings.hub}@{settings.revision}"
        return ModelSource(kind="hub", digest=hashlib.sha256(name.encode()).hexdigest(), where=name)
    folder = (root / settings.folder.expanduser()).resolve()
    files = {path.name: digest_of(path) for path in counted_files(folder)}
    digest = hashlib.sha256(orjson.dumps(files, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return ModelSource(kind="folder", digest=digest, where=str(folder), files=files)


def counted_files(folder: Path) -> list[Path]:
    """Give the files of a checkpoint that its digest covers, in order of name; others (a README) do not count.

    Raises:
        ModelError: the folder is not a whole checkpoint, or holds a file that can run code.
    """
    refuse_code(folder)
    weights = weight_files(folder)
    tokenizer = matching(folder, TOKENIZER_FILES)
    if not any(path.name in ("tokenizer.json", "tokenizer.model", "vocab.json") for path in tokenizer):
        raise ModelError(f"{folder} has no tokenizer; put tokenizer.json and tokenizer_config.json there")
    return sorted({folder / CONFIG, *weights, *tokenizer})


def refuse_code(folder: Path) -> None:
    """Pass only a folder whose model loads without running anything of its own, in full precision."""
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder; `model.folder` counts from the project root")
    if (able := matching(folder, CODE_FILES)) and (path := able[0]):
        cure = (
            "remove it, and use an architecture that transformers knows"
            if path.suffix == ".py"
            else "a pickle can run code when it is read; convert the weights to safetensors "
            "(`AutoModelForCausalLM.from_pretrained(...).save_pretrained(new_folder)` in a sandbox) and leave it out"
        )
        raise ModelError(f"{path} is refused ({len(able)} such files): {cure}")
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{folder} has no {CONFIG}, so it is no checkpoint; name the folder that holds it")
    for name in (CONFIG, "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in read_json(folder / name):
            raise ModelError(f"{folder / name} asks for code of its own (`auto_map`), which is never run; use another")
    if "quantization_config" in read_json(folder / CONFIG):
        raise ModelError(f"{folder} is quantized already (`quantization_config`); take the full-precision checkpoint")


def weight_files(folder: Path) -> list[Path]:
    """Give the safetensors files that hold the model, their index, and the generation defaults where there are any.

    Raises:
        ModelError: there are no safetensors, or the index names a file that is missing or outside the folder.
    """
    names = ["model.safetensors"]
    if (folder / INDEX).is_file():
        names = [*sorted(set(read_json(folder / INDEX).get("weight_map", {}).values())), INDEX]
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelError(f"{folder} lacks {name}; weights must be model.safetensors, or shards with {INDEX}")
    extra = ["generation_config.json"] if (folder / "generation_config.json").is_file() else []
    return [folder / name for name in [*names, *extra]]


def matching(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Give the files directly in `folder` whose names match a pattern, in order of name."""
    found = (path for path in folder.iterdir() if any(fnmatch.fnmatchcase(path.name, each) for each in patterns))
    return sorted(path for path in found if path.is_file())


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object; the standard library keeps whole numbers above 64 bits, which tokenizers write.

    Raises:
        ModelError: the file is not a JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelError(f"{path} is not JSON ({error}); fetch the checkpoint again") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object; fetch the checkpoint again")
    return value
