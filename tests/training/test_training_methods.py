"""Train a tiny model by each method and look at what was trained, on what, and at what a loss is worth."""

import math
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.training.conftest import MakeJob
from tests.training.processes import events_of, run_here, ticket
from tunemill.errors import TrainingError
from tunemill.training.methods import Lora, QLora, adapted_shapes, attach, load_base, load_trained, lora_parameters
from tunemill.training.settings import TrainSettings

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

STEPS = {"epochs": 1, "max_steps": 3, "batch_size": 4, "accumulation": 1, "learning_rate": 0.01, "warmup_steps": 1}
BASES = {"qlora": QLora(rank=4), "lora": Lora(rank=4)}


@pytest.mark.parametrize("kind", ["qlora", "lora"])
def test_a_trained_adapter_is_loaded_back_and_changes_what_the_model_says(
    tiny: Path, make_job: MakeJob, kind: str
) -> None:
    job = make_job(tiny, name=kind, method={"kind": kind, "rank": 4}, **STEPS)
    run_here(job)
    facts = orjson.loads((job.out / "training.json").read_bytes())
    assert facts["validation_loss"] < facts["base_validation_loss"]
    assert facts["output_change"] > 0
    model = load_trained(job.model, BASES[kind], job.out / "adapter", "cpu")
    assert sum(bool(w.any()) for n, w in model.named_parameters() if "lora_B" in n) == 14


@pytest.mark.parametrize("kind", ["qlora", "lora"])
def test_the_trainable_parameters_are_those_of_the_formula_and_told(tiny: Path, kind: str) -> None:
    model = attach(load_base(tiny / "model", BASES[kind], "cpu"), BASES[kind], seed=0)
    trainable, _ = model.get_nb_trainable_parameters()
    assert len(adapted_shapes(model)) == 14
    assert trainable == lora_parameters(adapted_shapes(model), 4) == 8_192


def test_a_4_bit_base_written_out_in_16_bits_is_to_the_bit_what_was_trained_on(tiny: Path, make_job: MakeJob) -> None:
    import torch

    job = make_job(tiny, name="dequantize", method={"kind": "qlora", "rank": 4}, **STEPS)
    run_here(job)
    ids = torch.tensor([[1, 9690, 198, 20, 504, 1, 520]])
    logits = []
    for dequantize in (False, True):
        model = load_trained(job.model, BASES["qlora"], job.out / "adapter", "cpu", dequantize)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            logits.append(model(input_ids=ids).logits)
    assert logits[0].equal(logits[1])


@pytest.mark.parametrize("kind", ["qlora", "lora"])
def test_computing_activations_twice_changes_no_loss(tiny: Path, make_job: MakeJob, kind: str) -> None:
    losses = []
    for twice in (False, True):
        method = {"kind": kind, "rank": 4, "dropout": 0.0}
        job = make_job(tiny, name="twice", method=method, gradient_checkpointing=twice, **STEPS)
        run_here(job)
        losses.append([event["loss"] for event in events_of(job, "step")])
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)


def test_an_8_bit_optimizer_trains_on_a_cpu_as_well(tiny: Path, make_job: MakeJob) -> None:
    job = make_job(tiny, name="8bit", optimizer="adamw_8bit", **STEPS)
    run_here(job)
    assert events_of(job, "done")[0]["steps_done"] == 3


def test_a_training_told_to_stop_while_it_measures_keeps_nothing_of_the_measurement(
    tiny: Path, make_job: MakeJob
) -> None:
    from datasets import Dataset

    from tunemill.training.job import Preempted

    tuner, units = trainer(tiny, make_job)
    tuner.eval_dataset = Dataset.from_list(units)
    tuner.stop.asked = True
    with pytest.raises(Preempted):
        tuner.evaluate()
    assert tuner.state.log_history == []


def test_without_validation_rows_the_last_step_is_kept(tiny: Path, make_job: MakeJob) -> None:
    job = make_job(tiny, name="unmeasured", **STEPS).model_copy(update={"validation": None})
    run_here(job)
    facts = orjson.loads((job.out / "training.json").read_bytes())
    assert (facts["chosen_step"], facts["validation_loss"], facts["validation_losses"]) == (3, None, [])


def test_packed_rows_give_the_gradient_of_the_same_rows_apart(tiny: Path, make_job: MakeJob) -> None:
    losses = {}
    for packing in (False, True):
        batch = 1 if packing else 16
        job = make_job(tiny, rows=16, name="pack", packing=packing, max_tokens=1024, **{**STEPS, "batch_size": batch})
        job = job.model_copy(update={"settings": job.settings.model_copy(update={"max_steps": 1, "epochs": 3})})
        job = job.model_copy(update={"settings": job.settings.model_copy(update={"warmup_steps": 0})})
        run_here(job)
        losses[packing] = events_of(job, "step")[0]
    assert losses[True]["loss"] == pytest.approx(losses[False]["loss"], abs=0.02)
    assert losses[True]["grad_norm"] == pytest.approx(losses[False]["grad_norm"], rel=0.05)


def trainer(tiny: Path, make_job: MakeJob, **settings: Any) -> Any:
    """Build the trainer of a job as `do_steps` does, with the rows that its steps learn from."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    from tunemill.models.chat import Chat
    from tunemill.training import loop, steps
    from tunemill.training.data import lesson, tokenized
    from tunemill.training.events import Events
    from tunemill.training.job import Stop
    from tunemill.training.preflight import TokenRules, preflight

    job = make_job(tiny, name="trainer", **{**STEPS, **settings})
    rows = tokenized(Chat(job.tokenizer), [ticket(number) for number in range(16)])
    plan = preflight(rows, [], TokenRules(1, (2,), job.settings.max_tokens), job.settings)
    learn = lesson(rows, job.settings)
    events = Events(job.events)
    method = job.settings.method
    tuner = loop.Tuner(
        identity="a",
        keep=2,
        events=events,
        stop=Stop(events),
        model=attach(load_base(job.model, method, "cpu"), method, seed=0),
        processing_class=AutoTokenizer.from_pretrained(job.tokenizer),
        train_dataset=Dataset.from_list(learn.units),
        args=steps.arguments(job, plan, fresh=False),
    )
    return tuner, learn.units


def test_a_model_that_sees_the_row_before_in_a_pack_is_refused(tiny: Path, make_job: MakeJob) -> None:
    from tunemill.training.steps import require_apart

    tuner, units = trainer(tiny, make_job, packing=True, max_tokens=256)
    require_apart(tuner, units)
    collate = tuner.data_collator
    boundaries = ("position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "seq_idx")
    tuner.data_collator = lambda rows: {k: v for k, v in collate(rows).items() if k not in boundaries}
    with pytest.raises(TrainingError, match=r"set train\.packing=false"):
        require_apart(tuner, units)


def test_scoring_answers_only_gives_the_loss_of_scoring_all_tokens(tiny: Path, make_job: MakeJob) -> None:
    import torch
    from trl.trainer import utils as trl_utils

    from tunemill.training.steps import score_answers_only

    tuner, units = trainer(tiny, make_job, method={"kind": "lora", "rank": 4, "dropout": 0.0})
    batch = tuner.data_collator([dict(unit) for unit in units[:4]])
    torch.nn.init.normal_(next(p for n, p in tuner.model.named_parameters() if "lora_B" in n))
    found = []
    before = trl_utils._use_triton
    try:
        for prepare in (lambda: setattr(trl_utils, "_use_triton", lambda device: False), score_answers_only):
            prepare()
            tuner.model.zero_grad()
            loss = tuner.compute_loss(tuner.model, dict(batch))
            loss.backward()
            gradient = torch.cat([p.grad.flatten() for p in tuner.model.parameters() if p.grad is not None])
            found.append((loss.item(), gradient))
    finally:
        trl_utils._use_triton = before
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-3)
    assert torch.nn.functional.cosine_similarity(found[0][1], found[1][1], dim=0) > 0.999


def test_the_validation_loss_is_the_mean_over_all_answer_tokens(tiny: Path, make_job: MakeJob) -> None:
    import torch
    from datasets import Dataset

    tuner, units = trainer(tiny, make_job, method={"kind": "lora", "rank": 4})
    uneven = [*units[:3], {"input_ids": units[3]["input_ids"], "labels": units[3]["input_ids"]}]
    tuner.eval_dataset = Dataset.from_list(uneven)
    total, tokens = 0.0, 0
    for unit in uneven:
        ids, labels = torch.tensor([unit["input_ids"]]), torch.tensor(unit["labels"])
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            scores = tuner.model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        wanted = labels[1:] != -100
        total -= scores[wanted].gather(-1, labels[1:][wanted, None]).sum().item()
        tokens += int(wanted.sum())
    assert tuner.evaluate()["eval_loss"] == pytest.approx(total / tokens, abs=0.01)


def test_a_rate_that_blows_the_weights_up_ends_the_training_at_that_step(tiny: Path, make_job: MakeJob) -> None:
    from tunemill.training.loop import require_finite

    require_finite(1, 2.5, 0.3)
    with pytest.raises(TrainingError, match=r"the loss is nan at step 7; lower train\.learning_rate"):
        require_finite(7, math.nan, 0.3)
    with pytest.raises(TrainingError, match="the gradient's length is inf at step 7"):
        require_finite(7, 2.5, math.inf)


def test_an_adapter_that_never_moved_is_named(tiny: Path) -> None:
    import torch

    from tunemill.training.adapters import require_learning

    model = attach(load_base(tiny / "model", BASES["lora"], "cpu"), BASES["lora"], seed=0)
    for name, weight in model.named_parameters():
        if "lora_B" in name and "q_proj" not in name:
            torch.nn.init.ones_(weight)
    with pytest.raises(TrainingError, match=r"adapters on q_proj did not move \(B = 0\)"):
        require_learning(model)


def test_an_adapter_of_another_rank_is_not_loaded(tiny: Path, tmp_path: Path) -> None:
    from tunemill.training.adapters import load_weights, save_adapter

    small, large = Lora(rank=4), Lora(rank=8)
    save_adapter(attach(load_base(tiny / "model", small, "cpu"), small, seed=0), tmp_path)
    with pytest.raises(TrainingError, match="the weights of another adapter"):
        load_weights(attach(load_base(tiny / "model", large, "cpu"), large, seed=0), tmp_path)


def test_the_seed_decides_the_first_weights(tiny: Path) -> None:
    def first(seed: int) -> Any:
        model = attach(load_base(tiny / "model", BASES["lora"], "cpu"), BASES["lora"], seed)
        return next(w for n, w in model.named_parameters() if "lora_A" in n)

    assert first(1).equal(first(1)) and not first(1).equal(first(2))


def test_a_rows_unit_is_what_the_trainer_passes_on(tiny: Path, make_job: MakeJob) -> None:
    tuner, units = trainer(tiny, make_job)
    assert tuner.train_dataset[:2]["input_ids"] == [unit["input_ids"] for unit in units[:2]]
    batch = tuner.data_collator([dict(unit) for unit in units[:3]])
    padding = batch["attention_mask"] == 0
    assert bool(padding.any()) and bool((batch["labels"][padding] == -100).all())
    ends = (batch["labels"] == 2).sum().item()
    assert ends == 3  # the end of each answer is trained although it is the padding token as well


def test_settings_decide_the_optimizer_on_a_cpu(tiny: Path, make_job: MakeJob) -> None:
    tuner, _ = trainer(tiny, make_job)
    assert tuner.args.optim == "adamw_torch"
    assert TrainSettings(optimizer="adamw_8bit").optimizer == "adamw_8bit"
