import json
from pathlib import Path

import pytest

from tunemill.errors import ModelError
from tunemill.files import hash_file
from tunemill.models.chat import Chat
from tunemill.models.checkpoint import write_tokenizer, write_weights
from tunemill.models.settings import ModelSettings
from tunemill.models.sources import ModelSource, locate
from tunemill.rows import Message


def found(folder: Path) -> ModelSource:
    return locate(ModelSettings(folder=folder), folder.parent, hash_file)


def test_the_weights_of_a_folder_are_the_same_bytes(model_folder: Path, tmp_path: Path) -> None:
    write_weights(found(model_folder), tmp_path, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (model_folder / "model.safetensors").read_bytes()


def test_the_weights_of_a_folder_take_no_second_place_on_the_disk(model_folder: Path, tmp_path: Path) -> None:
    write_weights(found(model_folder), tmp_path, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").samefile(model_folder / "model.safetensors")


def test_a_written_checkpoint_does_not_say_where_the_folder_lay(model_folder: Path, tmp_path: Path) -> None:
    write_weights(found(model_folder), tmp_path, tmp_path / "out")
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == {"model_type": "llama", "vocab_size": 400}


def test_the_configuration_of_the_person_stays_as_it_was(model_folder: Path, tmp_path: Path) -> None:
    before = (model_folder / "config.json").read_bytes()
    write_weights(found(model_folder), tmp_path, tmp_path / "out")
    assert (model_folder / "config.json").read_bytes() == before


def test_a_generation_configuration_is_copied_and_not_linked(model_folder: Path, tmp_path: Path) -> None:
    (model_folder / "generation_config.json").write_text('{"eos_token_id":2,"bos_token_id":1}')
    write_weights(found(model_folder), tmp_path, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == {
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    assert (model_folder / "generation_config.json").read_text() == '{"eos_token_id":2,"bos_token_id":1}'


def test_a_file_that_changed_since_it_was_found_is_refused(model_folder: Path, tmp_path: Path) -> None:
    source = found(model_folder)
    with (model_folder / "model.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ModelError, match=r"model\.safetensors changed after the run began"):
        write_weights(source, tmp_path, tmp_path / "out")


@pytest.mark.model
def test_a_folders_tokenizer_gives_the_ids_it_gave_where_it_lay(model_folder: Path, tmp_path: Path) -> None:
    write_tokenizer(found(model_folder), tmp_path, tmp_path / "out")
    messages = [Message("user", "Where is it?"), Message("assistant", "Behind the shed.")]
    assert Chat(tmp_path / "out").encode(messages).ids == Chat(model_folder).encode(messages).ids


@pytest.mark.model
def test_a_written_tokenizer_does_not_say_where_the_folder_lay(model_folder: Path, tmp_path: Path) -> None:
    write_tokenizer(found(model_folder), tmp_path, tmp_path / "out")
    assert all(str(tmp_path) not in path.read_text() for path in (tmp_path / "out").iterdir())


@pytest.mark.model
def test_a_moved_folder_writes_the_same_tokenizer(model_folder: Path, tmp_path: Path) -> None:
    write_tokenizer(found(model_folder), tmp_path, tmp_path / "one")
    moved = model_folder.rename(tmp_path / "moved")
    write_tokenizer(found(moved), tmp_path, tmp_path / "two")
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two and sorted(one) == ["chat_template.jinja", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.model
def test_a_model_without_a_chat_template_is_refused(model_folder: Path, tmp_path: Path) -> None:
    (model_folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        write_tokenizer(found(model_folder), tmp_path, tmp_path / "out")
