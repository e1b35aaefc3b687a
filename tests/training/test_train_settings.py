import sys

import pytest
import yaml
from pydantic import ValidationError

from tunemill.training.methods import Lora, QLora, lora_parameters
from tunemill.training.settings import TrainSettings

GUANACO_7B = """
method: {kind: qlora, rank: 64, alpha: 16, dropout: 0.1, target_modules: all-linear}
max_steps: 1875
learning_rate: 2e-4
schedule: constant
warmup_ratio: 0.03
batch_size: 4
accumulation: 4
max_grad_norm: 0.3
weight_decay: 0
optimizer: paged_adamw_32bit
max_tokens: 528
gradient_checkpointing: true
evaluate_every: 187
save_every: 500
early_stopping: null
"""


def test_rank_16_on_one_layer_of_4096_by_4096_trains_131072_parameters() -> None:
    assert lora_parameters([(4096, 4096)], 16) == 131_072


def test_rank_64_on_all_linear_layers_of_a_llama_8b_trains_167772160_parameters() -> None:
    layer = [(4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096), (4096, 14336), (4096, 14336), (14336, 4096)]
    assert lora_parameters(layer * 32, 64) == 167_772_160


def test_the_authors_settings_for_a_7b_model_can_be_written_in_yaml() -> None:
    settings = TrainSettings.model_validate(yaml.safe_load(GUANACO_7B))
    assert settings.learning_rate == 0.0002
    assert settings.method == QLora(rank=64, alpha=16, dropout=0.1)
    assert settings.rows_per_step == 16


def test_the_kind_chooses_the_method() -> None:
    assert TrainSettings.model_validate({"method": {"kind": "lora", "rank": 8}}).method == Lora(rank=8)


def test_a_4_bit_setting_is_unknown_to_plain_lora() -> None:
    with pytest.raises(ValidationError, match="quant_type"):
        TrainSettings.model_validate({"method": {"kind": "lora", "quant_type": "nf4"}})


def test_an_adapter_on_the_output_head_is_refused() -> None:
    with pytest.raises(ValidationError, match="lm_head cannot have an adapter"):
        QLora(target_modules=("q_proj", "lm_head"))


def test_a_warm_up_as_long_as_the_training_is_refused() -> None:
    with pytest.raises(ValidationError, match="warmup_steps=10 leaves nothing of max_steps=10"):
        TrainSettings(max_steps=10, warmup_steps=10)


def test_one_kept_checkpoint_is_too_few() -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        TrainSettings(keep_checkpoints=1)


def test_settings_survive_the_way_through_a_job_file() -> None:
    settings = TrainSettings(method=Lora(target_modules=("q_proj",)), early_stopping=None, gradient_checkpointing=True)
    assert TrainSettings.model_validate_json(settings.model_dump_json()) == settings


def test_every_setting_says_what_it_means() -> None:
    silent = [
        f"{section.__name__}.{name}"
        for section in (TrainSettings, QLora, Lora)
        for name, field in section.model_fields.items()
        if name != "kind" and not field.description
    ]
    assert silent == []


def test_reading_settings_loads_no_torch() -> None:
    import subprocess

    code = "import sys, tunemill.training.settings; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
