"""Every planted fault is caught by the check that is meant for it, on the real small model.

The adapter is random: it moves the model about 1 nat, so that a wrong merge shows as it would after a training.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from tests.exporting.test_merge import QLORA, write_adapter
from tests.training.processes import ticket
from tunemill import rows as row_files
from tunemill.evaluation import arms, generation, job
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.exporting import checks, converter, gguf, llama, merge_process, ollama, prove, shipped
from tunemill.exporting.lineage import PREFIX
from tunemill.exporting.proof import Check
from tunemill.exporting.prove import Findings, Folders
from tunemill.exporting.settings import ExportSettings
from tunemill.exporting.target import Shipment
from tunemill.exporting.targets import TARGETS
from tunemill.exporting.verify_settings import GgufBounds, MergedBounds, VerifySettings
from tunemill.home import Home
from tunemill.models.chat import Chat
from tunemill.training.methods import load_base, load_trained

pytestmark = [pytest.mark.model, pytest.mark.timeout(400)]

ROWS = 6
EVALUATED = EvaluateSettings(metrics=("token_f1",), max_new_tokens=8, batch_size=6)
SETTINGS = VerifySettings(
    prompts=ROWS,
    positions=120,
    merged=MergedBounds(top1=0.9, divergence=0.02, same_text=0.3, score_loss=0.3, stops=0.8),
    gguf=GgufBounds(top1=0.85, divergence=0.05, same_text=0.3, score_loss=0.3, stops=0.8),
)


@pytest.fixture(scope="module")
def folders(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Give a whole chain from adapter to export, made by the library as the stages call it."""
    root = tmp_path_factory.mktemp("chain")
    found = Folders(
        model=checkpoint / "model",
        tokenizer=checkpoint / "tokenizer",
        trained=write_adapter(checkpoint / "model", QLORA, root / "train" / "adapter"),
        merged=root / "merge" / "checkpoint",
        quantized=root / "quantize",
        exported=root / "export",
        evaluation=root / "evaluate",
        test=root / "test.parquet",
        scratch=root / "scratch",
    )
    for folder in (found.quantized, found.exported, found.evaluation, found.scratch, root / "merge"):
        folder.mkdir(parents=True)
    row_files.write(found.test, [ticket(number) for number in range(ROWS)])
    merge(found, found.merged.parent)
    quantize(found.merged, found.quantized)
    export(found)
    evaluate(found)
    return found


def merge(of: Folders, out: Path) -> None:
    asked = merge_process.Job(
        model=of.model, tokenizer=of.tokenizer, adapter=of.trained, method=QLORA, out=out, events=out / "events"
    )
    merge_process.run(asked, lambda event: None)


def quantize(checkpoint: Path, out: Path) -> Path:
    """Quantize to 8 bits, which lie near enough for tight bounds."""
    converter.convert(checkpoint, out / "f16.gguf", Home.find().root)
    llama.quantize(out / "f16.gguf", out / "q8_0.gguf", "q8_0")
    (out / "quantize.json").write_bytes(orjson.dumps({"kind": "q8_0"}))
    return out / "q8_0.gguf"


def export(of: Folders) -> None:
    given = Shipment(
        merged=of.merged.parent,
        quantized=of.quantized,
        adapter=of.trained.parent,
        tokenizer=of.tokenizer,
        facts={f"{PREFIX}run": "a test"},
        base="packaged:smollm2-135m-instruct",
        settings=ExportSettings(),
    )
    for name, target in TARGETS.items():
        (of.exported / name).mkdir()
        target.write(given, of.exported / name)


def evaluate(of: Folders) -> None:
    """Write the tuned arm's answers as the evaluation does."""
    chat, rows = Chat(of.tokenizer), arms.held_out(row_files.read(of.test), [], None)
    requests = job.put(chat, rows, [], 8192, EVALUATED).tested
    model = load_trained(of.model, QLORA, of.trained, "cpu", dequantize=True)
    answers = generation.generate(model, chat, [r.prompt for r in requests], EVALUATED.max_new_tokens, 6)
    said = ({"row_id": r.row_id, "arm": "tuned", **msgspec.to_builtins(a)} for r, a in zip(rows, answers, strict=True))
    row_files.write_lines(of.evaluation / "generations.jsonl", said)


@pytest.fixture(scope="module")
def proven(folders: Folders) -> Findings:
    """Prove the export as the stage does."""
    return prove.prove(folders, QLORA.model_dump(), EVALUATED, "q4_k_m", SETTINGS, lambda done, total: None)


def failed(found: list[Check]) -> set[str]:
    return {check.measure for check in found if not check.passed}


def of_merged(proven: Findings, folder: Path, scratch: Path) -> set[str]:
    """Check another merged folder against the adapter, with what was measured of the adapter before."""
    from tunemill.exporting.reference import _write_distributions, load_merged

    chat, model = Chat(folder), load_merged(folder, "cpu")
    prompts = {row.row_id: chat.prompt(row.prompt) for row in proven.asked.rows}
    _write_distributions(model, proven.questions, chat.pad_id, 6, scratch / "merged.npy")
    answers = generation.generate(model, chat, list(prompts.values()), EVALUATED.max_new_tokens, 6)
    said = dict(zip(prompts, answers, strict=True))
    near, floor = proven.asked.distance(scratch / "merged.npy"), proven.links[prove.FLOOR]
    return failed(list(checks.checks(proven.asked, "merged", prompts, near, floor, said, SETTINGS.merged)))


def of_gguf(proven: Findings, file: Path, scratch: Path) -> set[str]:
    """Check another GGUF against the adapter."""
    replies = shipped.ask(file, proven.asked, proven.questions, scratch, lambda done: None)
    near = proven.asked.distance(shipped.distributions(file, proven.questions, scratch / "near.npy"))
    prompts = {row_id: reply.prompt_ids for row_id, reply in replies.items()}
    said = {row_id: reply.answer for row_id, reply in replies.items()}
    floor = proven.links[prove.FLOOR]
    return failed(list(checks.checks(proven.asked, "q8_0", prompts, near, floor, said, SETTINGS.gguf)))


def faulty(folders: Folders, folder: Path, change: Callable[[Any], Any]) -> Path:
    """Write a merged checkpoint of which `change` made something else out of the base model in 16 bits."""
    import torch

    shutil.copytree(folders.merged, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    model = change(load_base(folders.model, QLORA, "cpu"))
    model.to(torch.bfloat16).save_pretrained(folder / "saved")
    (folder / "saved" / "model.safetensors").rename(folder / "model.safetensors")
    shutil.rmtree(folder / "saved")
    return folder


def merged_into(model: Any, adapter: Path, times: int = 1) -> Any:
    from peft import PeftModel

    for _ in range(times):
        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return model


def test_a_right_export_passes_every_check_and_names_what_stands_in_for_what(proven: Findings) -> None:
    assert [check.sentence for check in proven.failed] == []
    assert len(proven.checks) == 20
    assert [(f.name, f.instead_of) for f in proven.files] == [("merged", None), ("adapter", None), ("q8_0", "q4_k_m")]
    assert proven.verified.passed
    assert set(proven.links) == {"noise floor", "merged", "f16", "q8_0"}


def test_an_adapter_that_was_not_merged_is_caught(proven: Findings, folders: Folders, tmp_path: Path) -> None:
    wrong = faulty(folders, tmp_path / "m", lambda base: base.dequantize())
    assert {"next-token top-1 agreement", "mean divergence (nats per token)"} <= of_merged(proven, wrong, tmp_path)
    assert "mean divergence (nats per token)" in of_gguf(proven, quantize(wrong, tmp_path), tmp_path)


def test_an_adapter_that_was_merged_twice_is_caught(proven: Findings, folders: Folders, tmp_path: Path) -> None:
    wrong = faulty(folders, tmp_path / "m", lambda base: merged_into(base.dequantize(), folders.trained, times=2))
    assert {"next-token top-1 agreement", "mean divergence (nats per token)"} <= of_merged(proven, wrong, tmp_path)


def test_the_original_base_in_place_of_the_dequantized_one_is_caught(
    proven: Findings, folders: Folders, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    original = AutoModelForCausalLM.from_pretrained(folders.model, dtype="auto")
    wrong = faulty(folders, tmp_path / "m", lambda base: merged_into(original, folders.trained))
    assert "mean divergence (nats per token)" in of_merged(proven, wrong, tmp_path)


def test_the_tokenizer_of_another_model_is_caught(proven: Findings, folders: Folders, tmp_path: Path) -> None:
    """Two pieces of the vocabulary change places: nothing is missing, and every text that holds them reads wrong."""
    wrong = tmp_path / "m"
    shutil.copytree(folders.merged, wrong)
    path = wrong / "tokenizer.json"
    described = orjson.loads(path.read_bytes())
    words = described["model"]["vocab"]
    words["Ġticket"], words["Ġquestion"] = words["Ġquestion"], words["Ġticket"]
    path.unlink()  # a hard link of the base's own
    path.write_bytes(orjson.dumps(described))
    assert "prompts with the same token ids" in of_merged(proven, wrong, tmp_path)
    assert "prompts with the same token ids" in of_gguf(proven, quantize(wrong, tmp_path), tmp_path)


def test_a_wrong_template_in_the_gguf_is_caught(proven: Findings, folders: Folders, tmp_path: Path) -> None:
    right, wrong = folders.exported / "gguf" / "q8_0.gguf", tmp_path / "q8_0.gguf"
    data, template = right.read_bytes(), gguf.template(right).encode()
    assert data.count(template) == 1
    wrong.write_bytes(data.replace(template, template.replace(b"<|im_start|>", b"<|im_stort|>")))
    assert gguf.template(wrong) != gguf.template(right)
    assert "prompts with the same token ids" in of_gguf(proven, wrong, tmp_path)


def of_modelfile(proven: Findings, folders: Folders, scratch: Path, **changed: Any) -> set[str]:
    """Check the export with another Modelfile."""
    shutil.copytree(folders.exported, scratch / "export", copy_function=shutil.copyfile)
    path = scratch / "export" / "gguf" / "Modelfile"
    path.write_text(ollama.write(ollama.parse(path.read_text())._replace(**changed)))
    return failed(list(shipped.modelfile_checks(path.parent, folders.tokenizer, proven.asked)))


def test_a_wrong_template_in_the_modelfile_is_caught(proven: Findings, folders: Folders, tmp_path: Path) -> None:
    right = ollama.parse((folders.exported / "gguf" / "Modelfile").read_text()).template
    wrong = right.replace("assistant", "assistent")
    assert of_modelfile(proven, folders, tmp_path, template=wrong) == {"prompts with the same text"}


def test_a_missing_stop_word_is_caught(proven: Findings, folders: Folders, tmp_path: Path) -> None:
    assert of_modelfile(proven, folders, tmp_path, parameters={}) == {"end tokens that are a stop"}


@pytest.mark.parametrize("name", ["gguf/q8_0.gguf", "merged/model.safetensors", "adapter/adapter_model.safetensors"])
def test_one_flipped_bit_in_a_tensor_is_caught(folders: Folders, name: str, tmp_path: Path) -> None:
    ships = tmp_path / Path(name).parent.name
    ships.mkdir()
    data = bytearray((folders.exported / name).read_bytes())
    data[-1000] ^= 1
    (ships / Path(name).name).write_bytes(data)
    made = {"gguf": folders.quantized, "merged": folders.merged, "adapter": folders.trained}[ships.name]
    check = shipped.same_tensors(ships.name, made, ships)
    assert not check.passed
    assert check.worst[0].startswith(Path(name).name)


def test_an_export_of_nothing_proves_nothing(tmp_path: Path) -> None:
    assert not shipped.same_tensors("merged", tmp_path, tmp_path).passed


def test_fewer_prompts_than_asked_are_no_proof(proven: Findings) -> None:
    few = replace(proven, checks=list(checks.enough(proven.asked, prompts=7, positions=120)))
    assert few.verified.failed == ("all files (test prompts)",)
