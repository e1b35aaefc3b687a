"""Write a base model as two plain folders, the same bytes each time and without a trace of this machine.

    tokenizer/   tokenizer.json, tokenizer_config.json, chat_template.jinja
    model/       config.json, generation_config.json, safetensors

No code of a model is ever run: `trust_remote_code` stays off, and nothing but safetensors and GGUF is read as weights.
"""

import json
from pathlib import Path
from typing import Any

from tunemill.errors import ModelError
from tunemill.files import hash_file, link
from tunemill.models.packaged import gguf
from tunemill.models.sources import (
    CONFIG,
    TOKENIZER_FILES,
    WEIGHT_FILES,
    ModelSource,
    matching,
    read_json,
    refuse_code,
    weight_files,
)
from tunemill.quiet import quiet

TRACES = ("_name_or_path", "_model_name_or_path", "name_or_path", "is_local", "local_files_only", "tokenizer_file")
"""Keys that say where a file lay when it was loaded."""


def write_tokenizer(source: ModelSource, home: Path, out: Path) -> None:
    """Write the tokenizer folder that `Chat` reads; the chat template is the model's own.

    Raises:
        ModelError: the model has no chat template, no fast tokenizer, or cannot be had.
    """
    if source.kind == "packaged":
        file = gguf(source.where, home)
        _save_tokenizer(_gguf_tokenizer(file), file.parent, out)
        return
    folder = _folder(source, home, TOKENIZER_FILES)
    _refuse_changes(source, [folder / CONFIG, *matching(folder, TOKENIZER_FILES)])
    _save_tokenizer(_folder_tokenizer(folder), folder, out)


def write_weights(source: ModelSource, home: Path, out: Path) -> None:
    """Write configuration and weights: bf16 for a packaged model, else the files as they are, hard-linked if possible.

    Raises:
        ModelError: the weights cannot be had, or tied embeddings came apart.
    """
    out.mkdir(parents=True, exist_ok=True)
    if source.kind == "packaged":
        _write_gguf_weights(gguf(source.where, home), out)
        return
    folder = _folder(source, home, WEIGHT_FILES)
    files = weight_files(folder)
    _refuse_changes(source, [folder / CONFIG, *files])
    link(files, out)
    (out / CONFIG).write_bytes((folder / CONFIG).read_bytes())
    _remove_traces(out, folder)


def _folder(source: ModelSource, home: Path, patterns: tuple[str, ...]) -> Path:
    """Give the folder in which the files lie, fetching those of the hub that match into the home folder."""
    folder = Path(source.where) if source.kind == "folder" else _snapshot(source.where, home, patterns)
    refuse_code(folder)
    return folder


def _snapshot(where: str, home: Path, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    repository, _, revision = where.partition("@")
    try:
        with quiet("transformers", "huggingface_hub"):
            found = snapshot_download(
                repository,
                revision=revision,
                allow_patterns=[CONFIG, *patterns],
                ignore_patterns=["*/*"],
                cache_dir=home / "downloads" / "hub",
            )
    except Exception as error:
        raise ModelError(
            f"{where} could not be fetched: {type(error).__name__}: {str(error).strip().splitlines()[0]}\n"
            f"  Check name and commit, the network, and HF_TOKEN where the model asks for a licence to be accepted;\n"
            f"  or download it elsewhere and name its folder with `model.folder`."
        ) from error
    return Path(found)


def _gguf_tokenizer(file: Path) -> Any:
    """Read tokenizer and template from GGUF, with the rule that splits digits, which transformers leaves out.

    The GGUF says `tokenizer.ggml.pre = smollm`: every digit stands alone. Without it "a  1" gives other ids than the
    model was trained with, and other ids than llama.cpp gives when it serves the exported file.
    """
    from tokenizers import pre_tokenizers
    from transformers import AutoTokenizer

    with quiet("transformers", "huggingface_hub"):
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name, local_files_only=True)
    inner = tokenizer.backend_tokenizer
    digits = pre_tokenizers.Digits(individual_digits=True)
    inner.pre_tokenizer = pre_tokenizers.Sequence([digits, inner.pre_tokenizer])
    return tokenizer


def _folder_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet("transformers", "huggingface_hub"):
            return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelError(f"the tokenizer in {folder} cannot be loaded: {type(error).__name__}: {error}") from error


def _save_tokenizer(tokenizer: Any, folder: Path, out: Path) -> None:
    if not tokenizer.is_fast:
        raise ModelError(f"the tokenizer in {folder} has no tokenizer.json; save it with a fast tokenizer first")
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise ModelError(
            f"the model in {folder} has no chat template, so it cannot be told how a conversation is written; "
            "use an instruct model, or put a chat_template.jinja beside its tokenizer"
        )
    tokenizer.chat_template = template
    with quiet("transformers", "huggingface_hub"):
        tokenizer.save_pretrained(str(out))
    _remove_traces(out, folder)


def _write_gguf_weights(file: Path, out: Path) -> None:
    """Dequantize the GGUF to bf16 and save it as an ordinary checkpoint."""
    import torch
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM, GgufConfig

    with quiet("transformers", "huggingface_hub"):
        model = AutoModelForCausalLM.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            local_files_only=True,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.save_pretrained(str(out))
    with safe_open(out / "model.safetensors", "pt") as saved:
        if model.config.tie_word_embeddings and "lm_head.weight" in saved.keys():  # noqa: SIM118
            raise ModelError(f"{file.name}: input and output embeddings are one tensor there and came out as two")
    (out / "model.safetensors").chmod(0o644)
    _remove_traces(out, file.parent)


def _remove_traces(out: Path, folder: Path) -> None:
    """Rewrite the configuration files with sorted keys and without what tells of the folder that was read."""
    for path in matching(out, (CONFIG, "generation_config.json", "tokenizer_config.json")):
        kept = {
            key: value
            for key, value in read_json(path).items()
            if key not in TRACES and str(folder) not in json.dumps(value, ensure_ascii=False)
        }
        path.unlink()
        path.write_text(json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _refuse_changes(source: ModelSource, files: list[Path]) -> None:
    """Stop when a file of a folder is not the one that `locate` hashed."""
    for path in files if source.kind == "folder" else []:
        if hash_file(path) != source.files.get(path.name):
            raise ModelError(f"{path} changed after the run began; run again when nothing writes to that folder")
