"""What all tests share: state under the project's home, and the real small model for the tests marked `model`."""

from pathlib import Path

import pytest

from tunemill.home import PROJECT, Home

Home.find().enter()


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """Give the folder that holds SmolLM2-135M-Instruct as `tokenizer/` and `model/`; made once, then kept."""
    from tunemill.files import hash_file
    from tunemill.models.checkpoint import write_tokenizer, write_weights
    from tunemill.models.settings import ModelSettings
    from tunemill.models.sources import locate

    home = Home.find().root
    source = locate(ModelSettings(packaged="smollm2-135m-instruct"), PROJECT, hash_file)
    folder = home / "smollm2"
    for name, write, last in (
        ("tokenizer", write_tokenizer, "tokenizer.json"),
        ("model", write_weights, "model.safetensors"),
    ):
        if not (folder / name / last).is_file():
            (folder / name).mkdir(parents=True, exist_ok=True)
            write(source, home, folder / name)
    return folder
