"""Train the real small model in 4 bits: gradients that survive an evaluation, and a loss that falls."""

from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import MakeJob
from tests.training.processes import events_of, run_here, ticket
from tunemill.training.methods import QLora, attach, load_base, loses_gradients

pytestmark = [pytest.mark.model, pytest.mark.timeout(300)]

METHOD = QLora(rank=8, dropout=0.0)


def gradient(model: Any, ids: Any) -> Any:
    """Give the adapter's whole gradient on one conversation, as one vector."""
    import torch

    model.train()
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return torch.cat([p.grad.flatten().float() for p in model.parameters() if p.grad is not None])


def evaluate(model: Any, ids: Any) -> None:
    """Run the model as an evaluation does."""
    import torch

    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids, labels=ids)


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> Any:
    return attach(load_base(checkpoint / "model", METHOD, "cpu"), METHOD, seed=0)


@pytest.fixture(scope="module")
def ids(checkpoint: Path) -> Any:
    import torch

    from tunemill.models.chat import Chat

    return torch.tensor([Chat(checkpoint / "tokenizer").encode(ticket(2).messages).ids])


def test_no_4_bit_layer_may_repack_its_weights(model: Any) -> None:
    from bitsandbytes.nn import Linear4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 210
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    assert loses_gradients(model) == []


def test_an_evaluation_leaves_the_gradients_as_they_were(model: Any, ids: Any) -> None:
    import torch
    from bitsandbytes.functional import has_avx512bf16

    if not has_avx512bf16():
        pytest.skip("this processor has no AVX512-BF16, so bitsandbytes has no repacking to forbid")
    before = gradient(model, ids)
    evaluate(model, ids)
    assert torch.nn.functional.cosine_similarity(before, gradient(model, ids), dim=0) >= 0.999

    for module in model.modules():  # the fault itself, or the assertion above would prove nothing
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = True
    evaluate(model, ids)
    assert len(loses_gradients(model)) == 210
    assert torch.nn.functional.cosine_similarity(before, gradient(model, ids), dim=0) < 0.5


def test_six_steps_lower_the_validation_loss_by_more_than_1_nat(checkpoint: Path, make_job: MakeJob) -> None:
    job = make_job(
        checkpoint,
        rows=24,
        validation=4,
        name="learns",
        method={"kind": "qlora", "rank": 16},
        epochs=1,
        batch_size=4,
        accumulation=1,
        learning_rate=1e-3,
        warmup_steps=1,
        evaluate_every=6,
    )
    run_here(job)
    measured = {event["step"]: event["loss"] for event in events_of(job, "evaluation")}
    assert set(measured) == {0, 6}
    assert measured[6] < measured[0] - 1.0
