"""The folder that ships, made from small artifacts of every stage before it."""

import functools
import json
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf as gguf_writer
import numpy as np
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from tasks.export import export
from tests.exporting.chat_templates import GEMMA, LLAMA3
from tests.models.conftest import CHATML, SPECIAL, byte_level
from tunemill import artifacts
from tunemill.artifacts import Artifact, Exported
from tunemill.errors import ModelError
from tunemill.exporting import checksums, gguf, lineage, ollama, safetensors_header
from tunemill.exporting.gguf_target import adds_bos
from tunemill.exporting.settings import ExportSettings
from tunemill.exporting.targets import TARGETS
from tunemill.models.sources import ModelSource
from tunemill.store import Store

COMMIT = "0123456789abcdef0123456789abcdef01234567"
HUB = ModelSource(kind="hub", digest="a" * 64, where=f"owner/name@{COMMIT}")
PACKAGED = ModelSource(kind="packaged", digest="b" * 64, where="smollm2-135m-instruct")
FOLDER = ModelSource(kind="folder", digest="c" * 64, where="/home/me/models/base")

Fill = Callable[[Path], object]


def put(store: Store, kind: type[Artifact], fill: Fill, **made_from: Artifact) -> Any:
    """Seal an artifact whose key is its stage's name."""
    with store.work(kind.stage, kind.stage.encode().hex()[:16]) as work:
        fill(work.folder)
        return store.commit(work, kind, {}, {name: f"{a.stage}/{a.key}" for name, a in made_from.items()})


def text(name: str, content: str = "{}") -> Fill:
    return lambda folder: (folder / name).write_text(content)


@functools.cache
def words() -> str:
    return str(byte_level().to_str())


def tokenizer(folder: Path, template: str = CHATML) -> None:
    (folder / "tokenizer.json").write_text(words(), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(SPECIAL))
    (folder / "chat_template.jinja").write_text(template)


def checkpoint(folder: Path) -> None:
    (folder / "checkpoint").mkdir()
    tokenizer(folder / "checkpoint")
    (folder / "checkpoint" / "config.json").write_text('{"model_type": "llama"}')
    for number in (1, 2):
        tensors = {f"layer.{number}.weight": np.full((64, 64), number, np.float32)}
        save_file(tensors, folder / "checkpoint" / f"model-0000{number}-of-00002.safetensors", {"format": "pt"})
    (folder / "checkpoint" / "model.safetensors.index.json").write_text("{}")
    (folder / "merge.json").write_text("{}")


def adapter(folder: Path) -> None:
    (folder / "adapter").mkdir()
    save_file({"lora_A": np.ones((4, 64), np.float32)}, folder / "adapter" / "adapter_model.safetensors")
    config = {"r": 4, "base_model_name_or_path": str(folder), "revision": None}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))


def quantized(folder: Path, **said: Any) -> None:
    (folder / "quantize.json").write_text('{"kind": "q8_0"}')
    for name in ("f16", "q8_0"):
        writer = gguf_writer.GGUFWriter(folder / f"{name}.gguf", "llama")
        writer.add_tokenizer_model(said.get("model", "gpt2"))
        if "bos" in said:
            writer.add_add_bos_token(said["bos"])
        writer.add_tensor("token_embd.weight", np.full((8, 32), 3, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


Export = Callable[..., tuple[Store, Exported]]


@pytest.fixture
def made(tmp_path: Path) -> Export:
    """Run the stage on sealed artifacts of the whole chain, with a part of them replaced."""

    def make(
        source: ModelSource = PACKAGED, fill_tokenizer: Fill = tokenizer, fill_gguf: Fill = quantized, **settings: Any
    ) -> tuple[Store, Exported]:
        store = Store(tmp_path / "store")
        vocabulary = put(store, artifacts.Tokenizer, fill_tokenizer)
        base = put(store, artifacts.BaseWeights, text("config.json"))
        raw = put(store, artifacts.RawDataset, text("rows.parquet"))
        splits = put(store, artifacts.Splits, text("train.parquet", "rows"), raw=raw)
        trained = put(store, artifacts.Adapter, adapter, base=base, tokenizer=vocabulary, splits=splits)
        verdict = text("summary.json", '{"verdict": "better"}')
        evaluation = put(store, artifacts.Evaluation, verdict, base=base, splits=splits, adapter=trained)
        merged = put(store, artifacts.Merged, checkpoint, base=base, adapter=trained)
        quant = put(store, artifacts.Quantized, fill_gguf, merged=merged)
        return store, export.run(
            store, source, vocabulary, trained, merged, quant, evaluation, ExportSettings.model_validate(settings)
        )

    return make


def folder(made: tuple[Store, Exported]) -> Path:
    store, exported = made
    return store.open(exported)


def held(store: Store, kind: type[Artifact]) -> Path:
    return store.folder(kind.stage, kind.stage.encode().hex()[:16])


def test_every_target_has_its_folder_and_all_files_are_counted(made: Export) -> None:
    store, exported = made()
    out = store.open(exported)
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert names == [
        "SHA256SUMS",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "gguf/Modelfile",
        "gguf/q8_0.gguf",
        "lineage.json",
        "manifest.json",
        "merged/chat_template.jinja",
        "merged/config.json",
        "merged/model-00001-of-00002.safetensors",
        "merged/model-00002-of-00002.safetensors",
        "merged/model.safetensors.index.json",
        "merged/tokenizer.json",
        "merged/tokenizer_config.json",
    ]
    size = sum((out / name).stat().st_size for name in names if name != "manifest.json")
    assert exported.counts == {"files": 13, "bytes": size}


def test_only_the_targets_that_are_asked_for_ship(made: Export) -> None:
    out = folder(made(targets=["adapter"]))
    assert sorted(path.name for path in out.iterdir()) == ["SHA256SUMS", "adapter", "lineage.json", "manifest.json"]


def test_files_that_do_not_change_take_no_second_place(made: Export) -> None:
    store, exported = made()
    out, merged = store.open(exported), held(store, artifacts.Merged) / "checkpoint"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (out / "merged" / name).samefile(merged / name)


def test_files_that_carry_lineage_are_new_and_hold_the_same_tensors(made: Export) -> None:
    store, exported = made()
    out = store.open(exported)
    quant, trained = held(store, artifacts.Quantized), held(store, artifacts.Adapter)
    assert gguf.tensor_digest(out / "gguf/q8_0.gguf") == gguf.tensor_digest(quant / "q8_0.gguf")
    pairs = [("adapter/adapter_model.safetensors", trained / "adapter/adapter_model.safetensors")]
    for number in (1, 2):
        name = f"model-0000{number}-of-00002.safetensors"
        pairs.append((f"merged/{name}", held(store, artifacts.Merged) / "checkpoint" / name))
    for name, before in pairs:
        assert not (out / name).samefile(before)
        assert safetensors_header.tensor_digest(out / name) == safetensors_header.tensor_digest(before)
        assert {k: v.tobytes() for k, v in load_file(out / name).items()} == {
            k: v.tobytes() for k, v in load_file(before).items()
        }


def test_what_was_sealed_before_is_as_it_was(made: Export) -> None:
    store, _ = made()
    fresh = Store(store.root)
    for kind in (artifacts.Merged, artifacts.Quantized, artifacts.Adapter):
        assert fresh.check(kind.stage, kind.stage.encode().hex()[:16]) is not None


def test_lineage_names_run_dataset_base_verdict_and_every_key(made: Export) -> None:
    store, exported = made()
    facts = json.loads((store.open(exported) / "lineage.json").read_text())
    split = store.manifest("split", b"split".hex())
    assert split is not None
    stages = ["evaluate", "ingest", "merge", "model", "quantize", "split", "tokenizer", "train"]
    assert facts == {
        "tunemill.base": f"packaged:smollm2-135m-instruct sha256:{'b' * 64}",
        "tunemill.dataset": split.digest,
        "tunemill.key.export": exported.key,
        **{f"tunemill.key.{stage}": stage.encode().hex()[:16] for stage in stages},
        "tunemill.run": "none",
        "tunemill.verdict": "better",
        "tunemill.version": facts["tunemill.version"],
    }


@pytest.mark.parametrize(
    "name",
    [
        "gguf/q8_0.gguf",
        "gguf/Modelfile",
        "merged/model-00001-of-00002.safetensors",
        "merged/model-00002-of-00002.safetensors",
        "merged/config.json",
        "adapter/adapter_model.safetensors",
    ],
)
def test_every_file_that_ships_leads_back(name: str, made: Export) -> None:
    out = folder(made())
    assert lineage.read(out / name) == json.loads((out / "lineage.json").read_text())


def test_weights_lead_back_without_the_folder_around_them(made: Export, tmp_path: Path) -> None:
    out = folder(made())
    for name in ("gguf/q8_0.gguf", "adapter/adapter_model.safetensors"):
        moved = tmp_path / f"elsewhere-{Path(name).name}"
        moved.write_bytes((out / name).read_bytes())
        assert lineage.read(moved)["tunemill.verdict"] == "better"


def test_a_file_of_someone_else_has_no_lineage(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hi")
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "a.safetensors")
    assert lineage.read(tmp_path / "notes.txt") == lineage.read(tmp_path / "a.safetensors") == {}


def test_a_base_is_named_without_a_place() -> None:
    assert lineage.base_name(HUB) == f"hub:owner/name@{COMMIT}"
    assert lineage.base_name(FOLDER) == f"folder sha256:{'c' * 64}"


@pytest.mark.parametrize("source", [PACKAGED, FOLDER, HUB], ids=["packaged", "folder", "hub"])
def test_no_file_names_a_folder_of_this_machine(source: ModelSource, made: Export, tmp_path: Path) -> None:
    out = folder(made(source))
    for path in out.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes(), path
            assert b"/home/me" not in path.read_bytes(), path


def test_the_adapter_names_a_hub_model_at_its_commit(made: Export) -> None:
    config = json.loads((folder(made(HUB)) / "adapter/adapter_config.json").read_text())
    assert config == {"r": 4, "base_model_name_or_path": "owner/name", "revision": COMMIT}


def test_the_adapter_names_a_folder_by_its_digest(made: Export) -> None:
    config = json.loads((folder(made(FOLDER)) / "adapter/adapter_config.json").read_text())
    assert config == {"r": 4, "base_model_name_or_path": f"folder sha256:{'c' * 64}", "revision": None}


def test_sha256sum_passes_every_file(made: Export) -> None:
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder(made()), capture_output=True, text=True)
    assert (done.returncode, done.stdout.count(": OK\n"), done.stderr) == (0, 12, "")


def test_sha256sum_names_the_file_with_a_flipped_bit(made: Export, tmp_path: Path) -> None:
    out = folder(made())
    data = bytearray((out / "gguf/q8_0.gguf").read_bytes())
    data[-1] ^= 1
    (out / "gguf/q8_0.gguf").write_bytes(data)
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True, text=True)
    assert done.returncode == 1
    assert "gguf/q8_0.gguf: FAILED" in done.stdout


def test_checksums_reach_every_folder_and_leave_themselves_out(tmp_path: Path) -> None:
    (tmp_path / "a b" / "c").mkdir(parents=True)
    (tmp_path / "a b" / "c" / "ö.txt").write_text("x")
    assert [checksums.write(tmp_path), checksums.write(tmp_path)] == [1, 1]
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert (tmp_path / "SHA256SUMS").read_text() == f"{digest}  a b/c/ö.txt\n"


def test_the_modelfile_asks_as_the_model_was_trained(made: Export) -> None:
    modelfile = ollama.parse((folder(made()) / "gguf/Modelfile").read_text())
    assert modelfile.gguf == "./q8_0.gguf"
    assert modelfile.system is None
    assert modelfile.parameters == {"stop": ("<|im_end|>",), "temperature": ("0",)}


def test_a_system_prompt_and_a_temperature_stand_in_the_modelfile(made: Export) -> None:
    modelfile = ollama.parse((folder(made(system="Be brief.", temperature=0.25)) / "gguf/Modelfile").read_text())
    assert (modelfile.system, modelfile.parameters["temperature"]) == ("Be brief.", ("0.25",))


def test_every_end_of_an_answer_is_a_stop(made: Export) -> None:
    def two_ends(folder: Path) -> None:
        tokenizer(folder)
        (folder / "tokenizer_config.json").write_text(json.dumps({**SPECIAL, "eos_token": "<|endoftext|>"}))

    modelfile = ollama.parse((folder(made(fill_tokenizer=two_ends)) / "gguf/Modelfile").read_text())
    assert modelfile.parameters["stop"] == ("<|im_end|>", "<|endoftext|>")


def test_a_system_prompt_for_a_model_that_takes_none_is_an_error(made: Export) -> None:
    gemma = GEMMA.replace("<start_of_turn>", "<|im_start|>").replace("<end_of_turn>", "<|im_end|>")
    with pytest.raises(ModelError, match=r"export\.system is given, but the model takes no system message"):
        made(fill_tokenizer=lambda path: tokenizer(path, gemma), system="Be brief.")


@pytest.mark.parametrize(("bos", "begins"), [(True, "<|start_header_id|>"), (False, "<|im_start|><|start_header_id|>")])
def test_the_first_token_is_written_once_whoever_writes_it(bos: bool, begins: str, made: Export) -> None:
    from tunemill.rows import Message

    llama = LLAMA3.replace("<|eot_id|>", "<|im_end|>")
    out = folder(made(fill_tokenizer=lambda path: tokenizer(path, llama), fill_gguf=lambda p: quantized(p, bos=bos)))
    prompt = ollama.parse((out / "gguf/Modelfile").read_text()).prompt([Message("user", "Hi")])
    assert prompt.startswith(begins)


@pytest.mark.parametrize(
    ("said", "adds"),
    [({"bos": True}, True), ({"bos": False, "model": "llama"}, False), ({"model": "llama"}, True), ({}, False)],
)
def test_who_writes_the_first_token_is_read_from_the_gguf(said: dict[str, Any], adds: bool, tmp_path: Path) -> None:
    quantized(tmp_path, **said)
    assert adds_bos(tmp_path / "q8_0.gguf") is adds


def test_the_same_question_has_the_same_folder_and_another_system_prompt_another(made: Export) -> None:
    one, again, other = made()[1], made()[1], made(system="Be brief.")[1]
    assert one == again
    assert one.key != other.key


def test_a_served_folder_may_have_blanks_in_its_name(made: Export, tmp_path: Path) -> None:
    out = folder(made()).rename(tmp_path / "my models")
    commands = [command for name, target in TARGETS.items() for command in target.serve(out / name, "support")]
    assert [shlex.split(command) for command in commands] == [
        ["ollama", "create", "support", "-f", f"{out}/gguf/Modelfile"],
        ["llama-server", "-m", f"{out}/gguf/q8_0.gguf", "--jinja"],
        ["vllm", "serve", f"{out}/merged", "--served-model-name", "support"],
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": []}, "at least 1 item"),
        ({"targets": ["gguf", "gguf"]}, "names a target twice"),
        ({"targets": ["onnx"]}, "'gguf', 'merged' or 'adapter'"),
        ({"temperature": 2.5}, "less than or equal to 2"),
        ({"system": " "}, "`system` is empty"),
    ],
)
def test_settings_that_ship_nothing_or_nonsense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ExportSettings.model_validate(settings)
