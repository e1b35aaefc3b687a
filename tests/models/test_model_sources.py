import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tunemill.errors import ModelError
from tunemill.files import hash_file
from tunemill.models.settings import ModelSettings
from tunemill.models.sources import ModelSource, locate

COMMIT = "12fd25f77366fa6b3b4b768ec3050bf629380bac"


def found(folder: Path) -> ModelSource:
    return locate(ModelSettings(folder=folder), folder.parent, hash_file)


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_folder_counts_from_the_project_root(model_folder: Path) -> None:
    source = locate(ModelSettings(folder=Path("base")), model_folder.parent, hash_file)
    assert source.where == str(model_folder)


def test_the_files_that_count_are_weights_configuration_and_tokenizer(model_folder: Path) -> None:
    (model_folder / "README.md").write_text("Trained on letters.")
    (model_folder / "logs").mkdir()
    names = ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert sorted(found(model_folder).files) == names


def test_a_moved_folder_has_the_same_digest(model_folder: Path) -> None:
    before = found(model_folder)
    moved = model_folder.rename(model_folder.with_name("moved"))
    assert found(moved).digest == before.digest and found(moved).where != before.where


def test_a_readme_does_not_change_the_digest(model_folder: Path) -> None:
    before = found(model_folder).digest
    (model_folder / "README.md").write_text("Trained on letters.")
    assert found(model_folder).digest == before


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"])
def test_one_byte_more_in_a_file_that_counts_changes_the_digest(name: str, model_folder: Path) -> None:
    before = found(model_folder).digest
    with (model_folder / name).open("ab") as file:
        file.write(b" ")
    assert found(model_folder).digest != before


def test_place_and_files_enter_no_key(model_folder: Path) -> None:
    source = found(model_folder)
    assert source.decisions() == {"kind": "folder", "digest": source.digest}


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "last.ckpt", "vocab.pkl", "x.pickle", "modeling_own.py"],
)
def test_a_file_that_can_run_code_is_refused_by_name(name: str, model_folder: Path) -> None:
    (model_folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=rf"{name} is refused \(1 such files\)"):
        found(model_folder)


def test_a_pickle_is_refused_with_the_way_to_convert_it(model_folder: Path) -> None:
    (model_folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match="a pickle can run code when it is read; convert the weights to safetensors"):
        found(model_folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_a_model_that_asks_for_code_of_its_own_is_refused(name: str, model_folder: Path) -> None:
    edit(model_folder / name, auto_map={"AutoModelForCausalLM": "modeling_own.Model"})
    with pytest.raises(ModelError, match=rf"{name} asks for code of its own"):
        found(model_folder)


def test_a_checkpoint_that_is_quantized_already_is_refused(model_folder: Path) -> None:
    edit(model_folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ModelError, match="is quantized already"):
        found(model_folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "has no config.json"),
        ("model.safetensors", "lacks model.safetensors"),
        ("tokenizer.json", "has no tokenizer"),
    ],
)
def test_a_missing_file_is_named(name: str, message: str, model_folder: Path) -> None:
    (model_folder / name).unlink()
    with pytest.raises(ModelError, match=message):
        found(model_folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere is not a folder"):
        locate(ModelSettings(folder=Path("nowhere")), tmp_path, hash_file)


def test_a_torn_configuration_is_named(model_folder: Path) -> None:
    (model_folder / "config.json").write_text('{"model_type": ')
    with pytest.raises(ModelError, match=r"config\.json is not JSON"):
        found(model_folder)


def sharded(folder: Path, *names: str) -> None:
    for name in names:
        shutil.copyfile(folder / "model.safetensors", folder / name)
    (folder / "model.safetensors").unlink()
    weight_map = {f"layer.{number}": name for number, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_every_shard_of_the_index_counts(model_folder: Path) -> None:
    sharded(model_folder, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    assert {"model-00002-of-00002.safetensors", "model.safetensors.index.json"} < set(found(model_folder).files)


def test_a_missing_shard_is_named(model_folder: Path) -> None:
    sharded(model_folder, "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    (model_folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00002\.safetensors"):
        found(model_folder)


def test_an_index_cannot_lead_out_of_the_folder(model_folder: Path) -> None:
    sharded(model_folder, "../outside.safetensors")
    with pytest.raises(ModelError, match=r"lacks \.\./outside\.safetensors"):
        found(model_folder)


def test_two_commits_of_a_hub_model_have_two_digests(tmp_path: Path) -> None:
    one, other = (
        locate(ModelSettings(hub="acme/base", revision=commit), tmp_path, hash_file)
        for commit in (COMMIT, COMMIT[::-1])
    )
    assert one.digest != other.digest and one.where == f"acme/base@{COMMIT}"


def test_the_packaged_model_is_known_by_the_hash_of_its_wheel(tmp_path: Path) -> None:
    source = locate(ModelSettings(packaged="smollm2-135m-instruct"), tmp_path, hash_file)
    assert source.digest == "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"


def test_finding_a_model_loads_neither_torch_nor_transformers(model_folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tunemill.models.settings import ModelSettings\n"
        "from tunemill.models.sources import locate; from tunemill.files import hash_file\n"
        "import tunemill.models.checkpoint, tunemill.models.chat\n"
        "locate(ModelSettings(folder=Path(sys.argv[1])), Path(), hash_file)\n"
        "print([name for name in ('torch', 'transformers', 'tokenizers', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(model_folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
