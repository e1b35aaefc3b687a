"""The real small model as GGUF, made once for all tests marked `model`; nothing here needs torch in this process."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tunemill.exporting import converter, llama
from tunemill.home import Home
from tunemill.models.chat import Chat

Link = Callable[[Path, Sequence[Path]], Path]


def link(folder: Path, sources: Sequence[Path]) -> Path:
    """Make a folder that holds the files of several, without copying them."""
    folder.mkdir()
    for source in sources:
        for path in source.iterdir():
            (folder / path.name).symlink_to(path)
    return folder


@pytest.fixture(scope="session")
def linked() -> Link:
    """Make a folder from several: (folder, sources) → folder."""
    return link


@pytest.fixture(scope="session")
def home() -> Path:
    """Give the home in which the converter is installed, so that it is fetched once."""
    return Home.find().root


@pytest.fixture(scope="session")
def whole(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give SmolLM2-135M-Instruct as one folder: configuration, weights, tokenizer and template."""
    return link(tmp_path_factory.mktemp("whole") / "hazelthicket", [checkpoint / "model", checkpoint / "tokenizer"])


@pytest.fixture(scope="session")
def f16(whole: Path, home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convert it to 16 bits."""
    out = tmp_path_factory.mktemp("f16") / "f16.gguf"
    converter.convert(whole, out, home)
    return out


@pytest.fixture(scope="session")
def q8_0(f16: Path) -> Path:
    """Quantize it to 8 bits."""
    llama.quantize(f16, f16.with_name("q8_0.gguf"), "q8_0")
    return f16.with_name("q8_0.gguf")


@pytest.fixture(scope="session")
def q4_k_m(f16: Path) -> Path:
    """Quantize it to 4 bits and a bit."""
    llama.quantize(f16, f16.with_name("q4_k_m.gguf"), "q4_k_m")
    return f16.with_name("q4_k_m.gguf")


@pytest.fixture(scope="session")
def chat(checkpoint: Path) -> Chat:
    """Read prompts as training does."""
    return Chat(checkpoint / "tokenizer")
