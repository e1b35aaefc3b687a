"""Find the real small model that the tests of the model tier ask."""

from pathlib import Path

import pytest

from tunemill.home import Home


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    """Give the folder that holds SmolLM2-135M-Instruct as `tokenizer/` and `model/`."""
    folder = Home.find().root / "smollm2"
    if not (folder / "model" / "model.safetensors").is_file():
        pytest.skip("no SmolLM2-135M-Instruct in smollm2/ under TUNEMILL_HOME")
    return folder
