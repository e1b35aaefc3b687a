"""Tiny tokenizers trained here, and the real small model for the tests marked `model`."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunemill.files import hash_file
from tunemill.home import PROJECT
from tunemill.models.checkpoint import write_tokenizer, write_weights
from tunemill.models.settings import ModelSettings
from tunemill.models.sources import ModelSource, locate
from tunemill.rows import Message

TEXT = """A parcel that was sent on Monday came on Thursday, and the box was wet.
Can I have my money back? Yes: send us a photo of the box, and we pay within 14 days.
The driver left it behind the shed. Thank you! user assistant system tool
def pay(order):
  for line in order:
    if line.wet:
      total += line.price
  return total
"""

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou answer letters.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

SPECIAL = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}


def byte_level() -> Any:
    """Train a byte-level BPE of 400 tokens: 1 = <|im_start|>, 2 = <|im_end|> (special), 3 = <think> (not special)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=names, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    config = json.loads(tokenizer.to_str())
    config["added_tokens"][3]["special"] = False
    loaded = Tokenizer.from_str(json.dumps(config))
    assert [loaded.token_to_id(name) for name in names] == [0, 1, 2, 3]
    return loaded


Build = Callable[..., Path]


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> Build:
    """Write a tokenizer folder; without arguments a byte-level BPE with a ChatML template."""

    def build(template: str = CHATML, tokenizer: Any = None, special: dict[str, str] = SPECIAL) -> Path:
        folder = tmp_path / "tokenizer"
        folder.mkdir()
        (folder / "tokenizer.json").write_text((tokenizer or byte_level()).to_str(), encoding="utf-8")
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        (folder / "chat_template.jinja").write_text(template)
        return folder

    return build


def stock(folder: Path, messages: list[Message], **kwargs: Any) -> list[int]:
    """Ask transformers itself, by the class that needs no torch."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    turns = [message.fields for message in messages]
    return list(tokenizer.apply_chat_template(turns, return_dict=False, **kwargs))


@pytest.fixture(name="stock")
def stock_of() -> Callable[..., list[int]]:
    """Give the ids that `apply_chat_template` of transformers makes."""
    return stock


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """Write a whole checkpoint of one tensor, as a person would name it with `model.folder`."""
    import numpy as np
    from safetensors.numpy import save_file

    folder = tmp_path / "base"
    folder.mkdir()
    save_file({"model.embed_tokens.weight": np.ones((4, 2), np.float32)}, folder / "model.safetensors")
    config = {"model_type": "llama", "_name_or_path": str(folder), "vocab_size": 400}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(byte_level().to_str())
    (folder / "tokenizer_config.json").write_text(json.dumps({"name_or_path": str(folder), **SPECIAL}))
    (folder / "chat_template.jinja").write_text(CHATML)
    return folder


@pytest.fixture(scope="session")
def home() -> Path:
    """Give the home whose downloads the real model comes from, so that it is fetched once."""
    return (PROJECT / os.environ.get("TUNEMILL_TEST_HOME", ".tunemill")).resolve()


@pytest.fixture(scope="session")
def smollm2_source() -> ModelSource:
    return locate(ModelSettings(packaged="smollm2-135m-instruct"), PROJECT, hash_file)


@pytest.fixture(scope="session")
def smollm2(smollm2_source: ModelSource, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the real model, 135 million parameters in bf16, as tokenizer/ and model/."""
    folder = tmp_path_factory.mktemp("smollm2")
    write_tokenizer(smollm2_source, home, folder / "tokenizer")
    write_weights(smollm2_source, home, folder / "model")
    return folder
