"""Say what is trained: which adapter, on which form of the base model; load both.

Evaluation and merging load the model *as it was trained* through here, never in another way.
To add a method: an option model, a loading function, a line in the table at the foot.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tunemill.errors import ConfigError, ModelError
from tunemill.section import Section

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

ComputeType = Literal["auto", "bfloat16", "float16", "float32"]
TargetName = Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9_.]+$")]


class LowRank(Section):
    """What every low-rank adapter has: two thin matrices A and B beside a frozen weight W, adding alpha/rank · B·A."""

    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rows of A and columns of B; memory and trainable parameters grow linearly with it (Guanaco 7B: 64)."""
    alpha: Annotated[int, Field(ge=1, le=4096)] = 32
    """Scale: the adapter's part is multiplied by alpha / rank (Guanaco 7B: 16)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the adapter's inputs set to 0 at random while training (Guanaco 7B: 0.1)."""
    target_modules: Literal["all-linear"] | Annotated[tuple[TargetName, ...], Field(min_length=1)] = "all-linear"
    """Layers that get an adapter: every linear one but the output head, or the names given, such as q_proj."""
    compute_dtype: ComputeType = "auto"
    """Number format of the forward pass; `auto` is bfloat16, or float16 on a GPU without it."""

    @model_validator(mode="after")
    def _leaves_the_output_head_alone(self) -> Self:
        if "lm_head" in self.target_modules:
            raise ValueError("lm_head cannot have an adapter: the loss multiplies by its weight directly; take it out")
        return self


class QLora(LowRank):
    """Keep the base in 4 bits and train adapters on it (QLoRA, arXiv 2305.14314)."""

    kind: Literal["qlora"] = "qlora"
    quant_type: Literal["nf4", "fp4"] = "nf4"
    """4-bit number format; NF4 fits weights that are normally distributed (paper, section 3)."""
    double_quantization: bool = True
    """Quantize the quantization constants as well: about 0.4 bit a weight less (paper, section 3)."""


class Lora(LowRank):
    """Keep the base in 16 bits and train adapters on it: faster than 4 bits, four times the base's memory."""

    kind: Literal["lora"] = "lora"


Method = Annotated[QLora | Lora, Field(discriminator="kind")]


def lora_parameters(shapes: Iterable[tuple[int, int]], rank: int) -> int:
    """Count what an adapter trains on layers of the given (inputs, outputs): rank · (inputs + outputs) each."""
    return sum(rank * (inputs + outputs) for inputs, outputs in shapes)


def find_device() -> str:
    """Name the device that a process trains on: the one visible GPU, else the CPU."""
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def compute_type(method: QLora | Lora, device: str) -> "torch.dtype":
    """Give the number format of the forward pass on this device.

    Raises:
        ConfigError: bfloat16 is asked for by name and the GPU does not have it.
    """
    import torch

    has_bfloat16 = device == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    if method.compute_dtype == "auto":
        return torch.bfloat16 if has_bfloat16 else torch.float16
    if method.compute_dtype == "bfloat16" and not has_bfloat16:
        raise ConfigError(f"{torch.cuda.get_device_name()} has no bfloat16; set train.method.compute_dtype to auto")
    return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[method.compute_dtype]


def load_base(folder: Path, method: QLora | Lora, device: str) -> "PreTrainedModel":
    """Load the frozen base in the form that `method` trains on, from safetensors alone, running no code of the folder.

    Raises:
        ModelError: the folder cannot be loaded as a causal language model.
    """
    try:
        model = LOADERS[method.kind](folder, method, device)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the base model cannot be loaded as a {method.kind} base: {error}") from error
    keep_gradients_after_evaluation(model)
    model.requires_grad_(False)
    return model


def keep_gradients_after_evaluation(model: "torch.nn.Module") -> None:
    """Forbid bitsandbytes to repack 4-bit weights for CPU inference, which silently ends all gradients.

    On processors with AVX512-BF16, bitsandbytes 0.50.2 repacks the weights at the first forward pass without
    gradients and never undoes it; from then on the layers run a kernel that autograd does not know, and an adapter
    trains on noise (measured cosine with the true gradients: 0.005).
    """
    for _, layer in _layers_that_repack(model):
        layer.support_avx512bf16_for_cpu = False


def loses_gradients(model: "torch.nn.Module") -> list[str]:
    """List the layers that would repack their weights at the next evaluation, or have done so; [] when cured."""
    return [
        name
        for name, layer in _layers_that_repack(model)
        if layer.support_avx512bf16_for_cpu or getattr(layer.weight.quant_state, "packing_format_for_cpu", False)
    ]


def attach(model: "PreTrainedModel", method: QLora | Lora, seed: int) -> "PeftModel":
    """Put untrained adapters (A random by `seed`, B zero) on a frozen base: its output does not change yet.

    Raises:
        ModelError: no layer of the model has one of the target names.
    """
    from peft import LoraConfig, get_peft_model
    from transformers import set_seed

    targets = method.target_modules if isinstance(method.target_modules, str) else list(method.target_modules)
    config = LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    set_seed(seed)
    try:
        model_with_adapters: PeftModel = get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(f"train.method.target_modules={targets} fits no layer of this model: {error}") from error
    return model_with_adapters


def load_trained(
    folder: Path, method: QLora | Lora, adapter: Path, device: str, dequantize: bool = False
) -> "PeftModel":
    """Load the base as it was trained on with its trained adapter beside it, ready to answer.

    With `dequantize` the 4-bit weights are written out in 16 bits once instead of in every forward pass: four times
    the memory, and answers twice as fast on a CPU. On SmolLM2-135M its logits in training's own number formats are
    bit-identical to those of the 4-bit model, and outside of them as far from 32 bits as those of the 4-bit model
    (mean divergence 0.0017 nats against 0.0016).
    """
    from peft import PeftModel

    model = load_base(folder, method, device)
    if dequantize and getattr(model, "is_loaded_in_4bit", False):
        model = model.dequantize()
    trained = PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
    trained.eval()
    return trained


def adapted_shapes(model: "PeftModel") -> list[tuple[int, int]]:
    """List (inputs, outputs) of every layer that has an adapter."""
    layers: Iterator[Any] = (m for m in model.modules() if hasattr(m, "lora_A") and hasattr(m, "in_features"))
    return [(layer.in_features, layer.out_features) for layer in layers]


def _load_quantized(folder: Path, method: QLora, device: str) -> "PreTrainedModel":
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=method.quant_type,
        bnb_4bit_use_double_quant=method.double_quantization,
        bnb_4bit_compute_dtype=compute_type(method, device),
    )
    return _load(folder, method, device, quantization_config=quantization)


def _load(folder: Path, method: QLora | Lora, device: str, **options: Any) -> "PreTrainedModel":
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=compute_type(method, device),
        device_map={"": device},
        use_safetensors=True,
        local_files_only=True,
        trust_remote_code=False,
        **options,
    )
    return model


def _layers_that_repack(model: "torch.nn.Module") -> Iterator[tuple[str, Any]]:
    named: Iterator[tuple[str, Any]] = model.named_modules()
    return ((name, module) for name, module in named if "support_avx512bf16_for_cpu" in vars(module))


LOADERS: dict[str, Callable[..., "PreTrainedModel"]] = {
    "qlora": _load_quantized,
    "lora": _load,
}
