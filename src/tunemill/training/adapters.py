"""Keep an adapter's weights: write them the same way twice, read them back exactly, and see whether they learned."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tunemill.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


def save_adapter(model: "PeftModel", folder: Path) -> None:
    """Write the adapter's weights and configuration; equal adapters give equal bytes, and no place is named in them."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file({n: t.detach().cpu().contiguous() for n, t in weights.items()}, folder / WEIGHTS, {"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors leaves it to its owner alone
    config = model.peft_config["default"]
    config.save_pretrained(str(folder))
    known = orjson.loads((folder / CONFIG).read_bytes())
    known |= {"base_model_name_or_path": None, "inference_mode": True}
    if isinstance(known["target_modules"], list):
        known["target_modules"].sort()
    (folder / CONFIG).write_bytes(orjson.dumps(known, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


def load_weights(model: "PeftModel", folder: Path) -> None:
    """Set the adapter to the weights that `save_adapter` wrote.

    Raises:
        TrainingError: the file does not hold exactly this adapter's weights.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    weights = load_file(folder / WEIGHTS)
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    if weights.keys() != expected.keys() or any(weights[n].shape != t.shape for n, t in expected.items()):
        raise TrainingError(f"{folder.name} holds the weights of another adapter; delete it and train again")
    set_peft_model_state_dict(model, weights)


def require_learning(model: "PeftModel") -> None:
    """Stop unless every kind of layer has an adapter that moved: B starts at zero, so zero means nothing was learned.

    Raises:
        TrainingError: B of all layers of one name, such as q_proj, is still zero, or a weight is not finite.
    """
    moved: dict[str, bool] = {}
    for name, weight in adapter_weights(model):
        if not weight.isfinite().all():
            raise TrainingError(f"train: the adapter's {name} holds a value that is not finite; lower the rate")
        if ".lora_B." in name:
            kind = name.split(".lora_B.")[0].rpartition(".")[2]
            moved[kind] = moved.get(kind, False) or bool(weight.any())
    still = sorted(kind for kind, any_moved in moved.items() if not any_moved)
    if still:
        raise TrainingError(
            f"train: the adapters on {', '.join(still)} did not move (B = 0), so these layers would learn nothing; "
            "take them out of train.method.target_modules, or give training more steps than warm-up"
        )


def adapter_weights(model: "PeftModel") -> "list[tuple[str, torch.Tensor]]":
    """List the adapter's matrices by name."""
    return [(name, weight.detach()) for name, weight in model.named_parameters() if ".lora_" in name]


def adapter_norm(model: "PeftModel") -> float:
    """Give the length of all B together; 0 before training."""
    return math.sqrt(sum(float(w.double().square().sum()) for n, w in adapter_weights(model) if ".lora_B." in n))


def output_change(model: "PeftModel", ids: list[int]) -> float:
    """Give the mean over positions of the divergence KL(tuned ‖ base) of the next token, in nats; 0 changes nothing."""
    import torch

    inner = model.get_base_model()  # without the number formats that a Trainer wraps around the outer model
    batch = torch.tensor([ids], device=model.device)

    def log_probabilities() -> Any:
        return inner(input_ids=batch, use_cache=False).logits.double().log_softmax(-1)

    model.eval()
    with torch.no_grad():
        tuned = log_probabilities()
        with model.disable_adapter():
            plain = log_probabilities()
    return float((tuned.exp() * (tuned - plain)).sum(-1).mean())
