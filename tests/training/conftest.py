"""A tiny random model behind the real tokenizer, and jobs to train it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.training.processes import ticket
from tunemill import rows as row_files
from tunemill.training.job import Job
from tunemill.training.settings import TrainSettings


@pytest.fixture(scope="session")
def tiny(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give `model/`, a random Llama of 2 layers and width 64, beside the real `tokenizer/`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder / "model")
    (folder / "tokenizer").symlink_to(checkpoint / "tokenizer")
    return folder


MakeJob = Callable[..., Job]


@pytest.fixture(scope="session")
def make_job(tmp_path_factory: pytest.TempPathFactory) -> MakeJob:
    """Give a function that writes rows and a job.json into a folder of its own and returns the job."""

    def make(models: Path, rows: int = 32, name: str = "job", validation: int = 8, **settings: Any) -> Job:
        folder = tmp_path_factory.mktemp(name)
        row_files.write(folder / "train.parquet", [ticket(number) for number in range(rows)])
        row_files.write(folder / "validation.parquet", [ticket(number) for number in range(100, 100 + validation)])
        job = Job(
            model=models / "model",
            tokenizer=models / "tokenizer",
            train=folder / "train.parquet",
            validation=folder / "validation.parquet",
            out=folder / "out",
            checkpoints=folder / "checkpoints",
            events=folder / "events.jsonl",
            identity="a" * 32,
            settings=TrainSettings.model_validate(settings),
        )
        (folder / "job.json").write_text(job.model_dump_json())
        return job

    return make
