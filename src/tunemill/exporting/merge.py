"""Add a trained adapter to the weights that it was trained on, layer by layer, and say how much that changed.

A 4-bit training corrects the base as 4 bits hold it, errors included, so its adapter belongs to that base written out
again and not to the original. On SmolLM2-135M over 2,840 positions, the merge into the original lies 0.50 nats from the
adapter as trained (same most likely token at 73 %), this one 0.0003.

W + scale · B · A is added in 32 bits and rounded once, to the format that training computed in. In bfloat16 that costs
2.8e-4 nats (5e-6 on answers), a tenth of what bfloat16 arithmetic costs the adapter itself (3.1e-3); float16 would cost
2.6e-6, but models that are trained in bfloat16 may overflow when they compute in float16.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tunemill.errors import TrainingError
from tunemill.training.adapters import WEIGHTS
from tunemill.training.methods import Method

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

PREFIX = "base_model.model."
"""What PEFT puts before a layer's name in an adapter's file."""


class Change(msgspec.Struct, frozen=True):
    """What merging did to one layer; lengths are square roots of sums of squares."""

    layer: str
    weight: float
    """Length of the weight before."""
    update: float
    """Length of scale · B · A."""
    error: float
    """Length of what rounding the sum took or added."""
    changed: int
    """Weights with another value than before."""

    @property
    def relative(self) -> float:
        """Length of the update over that of the weight."""
        return self.update / self.weight if self.weight else math.inf

    @property
    def rounding(self) -> float:
        """Length of the rounding error over that of the update; 0 where there was no update."""
        return self.error / self.update if self.update else 0.0


def adapted_layers(model: "PeftModel") -> list[tuple[str, Any]]:
    """List name and module of every linear layer that has an adapter."""
    modules = model.get_base_model().named_modules()
    return [(name, module) for name, module in modules if hasattr(module, "lora_A") and hasattr(module, "in_features")]


def merge_layers(model: "PeftModel") -> Iterator[Change]:
    """Put W + scale · B · A in place of each adapted layer's weight, one layer after another, and yield what it did.

    The product is computed in 64 bits, so that neither the processor nor its number of threads decides a last digit.
    A merged layer is an ordinary one on the CPU; nothing else of the model changes.

    Raises:
        TrainingError: a merged weight is not finite.
    """
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    for name, layer in adapted_layers(model):
        linear = layer.get_base_layer()
        held = dequantize_bnb_weight(linear.weight).detach()
        layer.lora_A.double()
        layer.lora_B.double()
        update = layer.get_delta_weight("default").detach().float()
        exact = held.float() + update
        merged = exact.to(held.dtype)
        if wrong := int((~merged.isfinite()).sum()):
            raise TrainingError(
                f"merge: {wrong:,} of {merged.numel():,} weights of {name} are not finite with the adapter added; "
                "train again with a lower train.learning_rate"
            )
        layer.base_layer = _ordinary(linear, merged)
        yield Change(
            layer=name,
            weight=float(held.float().norm()),
            update=float(update.norm()),
            error=float((merged.float() - exact).norm()),
            changed=int((merged != held).sum()),
        )


def without_adapters(model: "PeftModel") -> "PreTrainedModel":
    """Give the model without a trace of adapters and of 4 bits, on the CPU.

    Layers that were held in 4 bits without having an adapter are written out as well.
    """
    from bitsandbytes.nn import Linear4bit
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    whole: PreTrainedModel = model.unload()
    quantized = [(name, module) for name, module in whole.named_modules() if isinstance(module, Linear4bit)]
    for name, module in quantized:
        whole.set_submodule(name, _ordinary(module, dequantize_bnb_weight(module.weight).detach()))
    if hasattr(whole, "hf_quantizer"):
        whole.hf_quantizer.remove_quantization_config(whole)
    if hasattr(whole, "hf_device_map"):
        del whole.hf_device_map  # saving would take "cpu" in it for parts that were moved out of memory
    on_cpu: PreTrainedModel = whole.to("cpu")
    return on_cpu


def matrices(adapter: Path) -> dict[str, int]:
    """Give name and number of parameters of every matrix in an adapter's file."""
    from safetensors import safe_open

    with safe_open(adapter / WEIGHTS, "pt") as file:
        return {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def require_same_layers(held: Mapping[str, int], layers: Sequence[str]) -> None:
    """Stop unless an adapter's file holds A and B of every layer that was merged, and nothing else.

    Raises:
        TrainingError: no layer was merged, or merged layers and those of the file do not match one to one.
    """
    wanted = {f"{PREFIX}{layer}.lora_{matrix}.weight" for layer in layers for matrix in "AB"}
    if not layers or held.keys() != wanted:
        left, lacking = sorted(held.keys() - wanted), sorted(wanted - held.keys())
        raise TrainingError(
            f"merge: {len(layers)} layers were merged; of the {len(held)} matrices in the adapter's file {len(left)} "
            f"belong to none of them{_first(left)}, and {len(lacking)} are lacking{_first(lacking)}: the adapter is of "
            "another model, damaged, or of a kind that cannot be merged; train again"
        )


def require_change(changes: Sequence[Change]) -> None:
    """Stop when the result would be the base itself.

    Raises:
        TrainingError: no weight of any layer has another value than before.
    """
    if not any(change.changed for change in changes):
        longest = max((change.update for change in changes), default=0.0)
        raise TrainingError(
            f"merge: none of {len(changes)} merged layers has a weight that differs from the base's (the longest "
            f"update is {longest:.2g}): the adapter learned nothing, or less than the number format can hold; train "
            "longer or with a higher train.learning_rate"
        )


def summary(changes: Sequence[Change]) -> dict[str, Any]:
    """Give the counts of layers, and how large update and rounding were over all of them, to 4 digits.

    `relative_change` is the update over the weight, `rounding` the rounding error over the update.
    """
    return {
        "layers": len(changes),
        "layers_unchanged": sum(not change.changed for change in changes),
        "relative_change": _spread([change.relative for change in changes]),
        "largest_change_in": max(changes, key=lambda change: change.relative).layer,
        "rounding": _spread([change.rounding for change in changes]),
    }


def form(method: Method) -> str:
    """Say into which form of the base an adapter of this method is merged."""
    if method.kind == "lora":
        return "the base itself"
    return f"{method.quant_type}{' with double quantization' if method.double_quantization else ''}, dequantized"


def _ordinary(linear: Any, weight: "torch.Tensor") -> "torch.nn.Linear":
    """Give an ordinary layer on the CPU with this weight and the bias of another."""
    import torch

    layer = torch.nn.Linear(linear.in_features, linear.out_features, bias=False, device="meta")
    layer.weight = torch.nn.Parameter(weight.cpu(), requires_grad=False)
    layer.bias = linear.bias
    return layer


def _spread(values: Sequence[float]) -> dict[str, float]:
    mean = sum(values) / len(values)
    return {"mean": float(f"{mean:.4g}"), "largest": float(f"{max(values):.4g}")}


def _first(names: Sequence[str]) -> str:
    return f" ({names[0]}{', …' if names[1:] else ''})" if names else ""
