"""Merge adapters into the form of the base they were trained on, and measure how far the result lies from them."""

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.training.conftest import tiny as tiny  # a random model of 2 layers behind the real tokenizer
from tests.training.processes import ticket
from tunemill import child
from tunemill.artifacts import Adapter, BaseWeights, Tokenizer
from tunemill.errors import ModelError, TrainingError
from tunemill.exporting.merge_process import Job, run
from tunemill.store import Store, hash_files
from tunemill.training.adapters import WEIGHTS, save_adapter
from tunemill.training.methods import Lora, QLora, attach, load_base, load_trained

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

QLORA, LORA = QLora(rank=16), Lora(rank=16)
B_SPREAD = 0.1
"""Standard deviation of a random B that moves what SmolLM2 says by 1 nat; 33 steps of training moved it by 2.4."""


def write_adapter(model: Path, method: QLora | Lora, folder: Path, spread: float = B_SPREAD) -> Path:
    """Write an adapter whose A is as before training and whose B is random, the same each time."""
    import torch

    with_adapters = attach(load_base(model, method, "cpu"), method, seed=0)
    torch.manual_seed(1)
    for name, weight in with_adapters.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(weight.data, std=spread)
    save_adapter(with_adapters, folder)
    return folder


def edit(adapter: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Copy an adapter and let `change` alter its matrices."""
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    (folder / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    weights = load_file(adapter / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)
    return folder


def job(models: Path, adapter: Path, method: QLora | Lora, out: Path, **options: Any) -> Job:
    """Describe a merge into `out`, an empty folder."""
    out.mkdir(parents=True)
    return Job(
        model=models / "model",
        tokenizer=models / "tokenizer",
        adapter=adapter,
        method=method,
        out=out,
        events=out.parent / f"{out.name}.jsonl",
        **options,
    )


def merge(models: Path, adapter: Path, method: QLora | Lora, out: Path, **options: Any) -> dict[str, Any]:
    """Merge in this process; its errors come out as they are."""
    return run(job(models, adapter, method, out, **options), lambda event: None)


def load(folder: Path) -> Any:
    """Load as any user would: nothing is said but where it lies."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def distributions(model: Any, models: Path) -> Any:
    """Give log-probabilities of 6 conversations' next tokens, computed in 32 bits so that weights alone decide."""
    import torch

    from tunemill.models.chat import Chat

    chat = Chat(models / "tokenizer")
    model = model.float().eval()
    with torch.no_grad():
        batches = [torch.tensor([chat.encode(ticket(number).messages).ids]) for number in range(6)]
        return torch.cat([model(input_ids=ids).logits[0].double().log_softmax(-1) for ids in batches])


def divergence(of: Any, other: Any) -> float:
    """Mean over positions of KL(of ‖ other), in nats."""
    return float((of.exp() * (of - other)).sum(-1).mean())


@pytest.fixture(scope="module")
def adapter(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(checkpoint / "model", QLORA, tmp_path_factory.mktemp("adapter") / "a")


@pytest.fixture(scope="module")
def merged(checkpoint: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the artifact's folder of the real model with its adapter merged, by the process that a stage starts."""
    asked = job(checkpoint, adapter, QLORA, tmp_path_factory.mktemp("merged") / "m")
    path = asked.out.parent / "job.json"
    path.write_text(asked.model_dump_json())
    heard: list[dict[str, Any]] = []
    child.run("tunemill.exporting.merge_process", path, asked.events, heard.append)
    assert [event["done"] for event in heard[:-1]] == list(range(1, 211))
    return asked.out


@pytest.fixture(scope="module")
def as_trained(checkpoint: Path, adapter: Path) -> Any:
    model = load_trained(checkpoint / "model", QLORA, adapter, "cpu", dequantize=True)
    return distributions(model, checkpoint)


def test_the_merged_model_says_what_the_adapter_says_on_the_4_bit_base(
    checkpoint: Path, merged: Path, as_trained: Any
) -> None:
    assert divergence(as_trained, distributions(load(merged / "checkpoint"), checkpoint)) < 0.0005  # measured: 0.00017


def test_an_adapter_left_out_merged_twice_or_merged_into_the_original_base_lies_far_away(
    checkpoint: Path, adapter: Path, as_trained: Any, tmp_path: Path
) -> None:
    def double(weights: dict[str, Any]) -> None:
        weights.update({name: 2 * weight for name, weight in weights.items() if ".lora_B." in name})

    left_out = load_base(checkpoint / "model", QLORA, "cpu").dequantize()
    assert divergence(as_trained, distributions(left_out, checkpoint)) > 0.5  # measured: 0.99

    merge(checkpoint, edit(adapter, tmp_path / "double", double), QLORA, tmp_path / "twice")
    twice = load(tmp_path / "twice" / "checkpoint")
    assert divergence(as_trained, distributions(twice, checkpoint)) > 1  # measured: 2.5

    merge(checkpoint, adapter, LORA, tmp_path / "original")
    original = load(tmp_path / "original" / "checkpoint")
    assert divergence(as_trained, distributions(original, checkpoint)) > 0.25  # measured: 0.49


def test_merge_json_says_what_was_merged_into_what(merged: Path) -> None:
    facts = orjson.loads((merged / "merge.json").read_bytes())
    assert (facts["base"], facts["dtype"]) == ("nf4 with double quantization, dequantized", "bfloat16")
    assert (facts["layers"], facts["layers_unchanged"]) == (210, 0)
    assert (facts["parameters"], facts["trainable_parameters"]) == (134_515_008, 4_884_480)
    assert 0.001 < facts["relative_change"]["mean"] < facts["relative_change"]["largest"] < 1
    assert 0 < facts["rounding"]["mean"] < facts["rounding"]["largest"] < 1


def test_it_loads_as_an_ordinary_bfloat16_model_with_tied_embeddings(checkpoint: Path, merged: Path) -> None:
    import torch
    from safetensors import safe_open

    model = load(merged / "checkpoint")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert not hasattr(model.config, "quantization_config") and not hasattr(model, "hf_quantizer")
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    with safe_open(merged / "checkpoint" / "model.safetensors", "pt") as file:
        assert len(list(file.keys())) == 272
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118
    assert (merged / "checkpoint" / "config.json").read_bytes() == (checkpoint / "model" / "config.json").read_bytes()


def test_the_tokenizers_files_and_the_generation_defaults_are_the_same_files(checkpoint: Path, merged: Path) -> None:
    for source, name in [
        ("tokenizer", "tokenizer.json"),
        ("tokenizer", "tokenizer_config.json"),
        ("tokenizer", "chat_template.jinja"),
        ("model", "generation_config.json"),
    ]:
        assert (merged / "checkpoint" / name).read_bytes() == (checkpoint / source / name).read_bytes()
    assert sorted(path.name for path in (merged / "checkpoint").iterdir()) == [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


def test_one_thread_or_two_and_another_folder_give_the_same_bytes(
    checkpoint: Path, merged: Path, adapter: Path, tmp_path: Path
) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        merge(checkpoint, adapter, QLORA, tmp_path / "again")
    finally:
        torch.set_num_threads(threads)
    assert hash_files(tmp_path / "again") == hash_files(merged)


def test_a_lora_adapter_is_merged_into_its_own_base(tiny: Path, tmp_path: Path) -> None:
    method = Lora(rank=4)
    adapter = write_adapter(tiny / "model", method, tmp_path / "adapter", spread=0.5)
    facts = merge(tiny, adapter, method, tmp_path / "out")
    assert (facts["base"], facts["layers"], facts["trainable_parameters"]) == ("the base itself", 14, 8_192)
    trained = distributions(load_trained(tiny / "model", method, adapter, "cpu"), tiny)
    assert divergence(trained, distributions(load(tmp_path / "out" / "checkpoint"), tiny)) < 1e-4  # measured: 2.2e-5
    assert divergence(trained, distributions(load(tiny / "model"), tiny)) > 0.01  # measured: 0.025


@pytest.mark.parametrize("compute_dtype", ["float32", "float16"])
def test_the_result_has_the_number_format_that_training_computed_in(
    tiny: Path, tmp_path: Path, compute_dtype: str
) -> None:
    method = QLora.model_validate({"rank": 4, "compute_dtype": compute_dtype})
    adapter = write_adapter(tiny / "model", method, tmp_path / "adapter", spread=0.5)
    assert merge(tiny, adapter, method, tmp_path / "out")["dtype"] == compute_dtype
    model = load(tmp_path / "out" / "checkpoint")
    assert {str(parameter.dtype) for parameter in model.parameters()} == {f"torch.{compute_dtype}"}


def test_layers_held_in_4_bits_without_an_adapter_are_written_out_as_they_were(tiny: Path, tmp_path: Path) -> None:
    method = QLora(rank=4, target_modules=("q_proj",))
    adapter = write_adapter(tiny / "model", method, tmp_path / "adapter")
    assert merge(tiny, adapter, method, tmp_path / "out")["layers"] == 2
    model = load(tmp_path / "out" / "checkpoint")
    quantized = load_base(tiny / "model", method, "cpu").dequantize()
    attention, before = model.model.layers[0].self_attn, quantized.model.layers[0].self_attn
    assert attention.k_proj.weight.equal(before.k_proj.weight)
    assert not attention.q_proj.weight.equal(before.q_proj.weight)


def test_a_base_without_generation_defaults_gets_none(tiny: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare" / "model"
    bare.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        os.link(tiny / "model" / name, bare / name)
    (tmp_path / "bare" / "tokenizer").symlink_to((tiny / "tokenizer").resolve())
    adapter = write_adapter(bare, LORA, tmp_path / "adapter")
    merge(tmp_path / "bare", adapter, LORA, tmp_path / "out")
    assert not (tmp_path / "out" / "checkpoint" / "generation_config.json").exists()


def test_a_large_model_is_cut_into_files_that_load_as_one(tiny: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tiny / "model", LORA, tmp_path / "adapter")
    merge(tiny, adapter, LORA, tmp_path / "whole")
    merge(tiny, adapter, LORA, tmp_path / "cut", max_shard_size="100KB")
    assert len(list((tmp_path / "cut" / "checkpoint").glob("model-*-of-*.safetensors"))) == 3
    assert (tmp_path / "cut" / "checkpoint" / "model.safetensors.index.json").is_file()
    whole, cut = (load(tmp_path / name / "checkpoint").state_dict() for name in ("whole", "cut"))
    assert whole.keys() == cut.keys() and all(whole[name].equal(cut[name]) for name in whole)


def sealed(store: Store, kind: type[Any], folder: Path, parts: dict[str, Any]) -> Any:
    """Put a copy of a folder into a store as an artifact."""
    with store.work(kind.stage, "a" * 32) as work:
        shutil.copytree(folder, work.folder, dirs_exist_ok=True)
        return store.commit(work, kind, parts, {})


def test_the_stage_seals_the_format_of_training_and_shares_the_tokenizers_files(tiny: Path, tmp_path: Path) -> None:
    from tasks.merge import merge as stage

    method = QLora(rank=4)
    write_adapter(tiny / "model", method, tmp_path / "trained" / "adapter")
    (tmp_path / "trained" / "training.json").write_text('{"compute_dtype": "float16"}')  # as on a GPU of 2018
    parts = {"section": {"settings": {"method": method.model_dump(mode="json")}}}
    store = Store(tmp_path / "store")
    made = stage.run(
        store,
        sealed(store, BaseWeights, tiny / "model", {}),
        sealed(store, Tokenizer, tiny / "tokenizer", {}),
        sealed(store, Adapter, tmp_path / "trained", parts),
    )
    folder = store.open(made)
    assert (made.stage, made.counts["layers"]) == ("merge", 14)
    assert orjson.loads((folder / "merge.json").read_bytes())["dtype"] == "float16"
    held = store.folder("tokenizer", "a" * 32) / "tokenizer.json"
    assert (folder / "checkpoint" / "tokenizer.json").samefile(held)


def spoiled(change: Callable[[dict[str, Any]], object], tiny: Path, folder: Path) -> Path:
    """Give a LoRA adapter of the tiny model after `change`."""
    return edit(write_adapter(tiny / "model", LORA, folder / "sound"), folder / "spoiled", change)


def test_an_adapter_that_lacks_a_layer_is_refused(tiny: Path, tmp_path: Path) -> None:
    lost = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    adapter = spoiled(lambda weights: weights.pop(lost), tiny, tmp_path)
    with pytest.raises(TrainingError, match=rf"14 layers were merged.* 27 matrices.* 1 are lacking \({lost}\)"):
        merge(tiny, adapter, LORA, tmp_path / "out")


def test_an_adapter_with_a_layer_that_the_base_does_not_have_is_refused(tiny: Path, tmp_path: Path) -> None:
    import torch

    extra = "base_model.model.model.layers.2.mlp.up_proj.lora_B.weight"
    adapter = spoiled(lambda weights: weights.update({extra: torch.ones(128, 16)}), tiny, tmp_path)
    with pytest.raises(TrainingError, match=rf"29 matrices.* 1 belong to none of them \({extra}\)"):
        merge(tiny, adapter, LORA, tmp_path / "out")


def test_an_adapter_of_another_model_is_refused(tiny: Path, adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the adapter does not fit this base model: .*size mismatch"):
        merge(tiny, adapter, QLORA, tmp_path / "out")


def test_an_adapter_that_learned_nothing_is_refused(tiny: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tiny / "model", LORA, tmp_path / "adapter", spread=0)
    with pytest.raises(TrainingError, match=r"none of 14 merged layers has a weight that differs .* update is 0\)"):
        merge(tiny, adapter, LORA, tmp_path / "out")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_after_merging_is_named_with_its_layer(
    tiny: Path, tmp_path: Path, value: float
) -> None:
    name = "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    adapter = spoiled(lambda weights: weights[name][3].fill_(value), tiny, tmp_path)
    with pytest.raises(TrainingError, match=r" of 8,192 weights of model\.layers\.1\.mlp\.up_proj are not finite"):
        merge(tiny, adapter, LORA, tmp_path / "out")
