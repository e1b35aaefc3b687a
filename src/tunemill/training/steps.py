"""Do the steps of a training that are still to do, by TRL's SFTTrainer."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunemill.errors import TrainingError
from tunemill.training.checkpoints import Checkpoint
from tunemill.training.data import Lesson, Unit, joined
from tunemill.training.events import Events
from tunemill.training.job import Job, Preempted, Stop
from tunemill.training.methods import compute_type, find_device
from tunemill.training.preflight import Preflight
from tunemill.training.schedule import finished

if TYPE_CHECKING:
    from trl.trainer.sft_config import SFTConfig

    from tunemill.training.loop import Tuner

SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
"""Our name of a schedule → transformers' name; each begins with the warm-up."""


def do_steps(
    job: Job,
    model: Any,
    plan: Preflight,
    learn: Lesson,
    measure: list[Unit],
    resumed: Checkpoint | None,
    events: Events,
    stop: Stop,
) -> list[dict[str, Any]]:
    """Do the steps that are still to do and give the log of all of them.

    Raises:
        Preempted: told to stop before the last step.
        TrainingError: a loss that is not finite, an adapter that does not move, a GPU without enough memory, rows that
            see each other in a pack, or another number of steps than planned.
    """
    tuner = tuner_of(job, model, plan, learn, measure, resumed is None, events, stop)
    if job.settings.packing:
        require_apart(tuner, learn.units)
    step(tuner, job, resumed, stop)
    history: list[dict[str, Any]] = tuner.state.log_history
    if finished(history, plan.steps, job.settings.early_stopping):
        return history
    if stop.asked:
        raise Preempted
    raise TrainingError(f"train: {tuner.state.global_step} steps were done, {plan.steps} were planned")


def tuner_of(
    job: Job,
    model: Any,
    plan: Preflight,
    learn: Lesson,
    measure: list[Unit],
    fresh: bool,
    events: Events,
    stop: Stop,
) -> "Tuner":
    """Build the trainer; `fresh` says that no checkpoint is gone on from, so the untrained model is measured first."""
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback

    from tunemill.training.loop import Conductor, Tuner

    score_answers_only()
    tuner = Tuner(
        identity=job.identity,
        keep=job.settings.keep_checkpoints,
        events=events,
        stop=stop,
        model=model,
        processing_class=AutoTokenizer.from_pretrained(job.tokenizer, local_files_only=True),
        train_dataset=Dataset.from_list(learn.units).select(learn.order),
        eval_dataset=Dataset.from_list(measure) if measure else None,
        args=arguments(job, plan, fresh),
        callbacks=[Conductor(plan, job.settings, learn.step_tokens, events, stop)],
    )
    tuner.remove_callback(PrinterCallback)
    train_in_full_precision(model)
    return tuner


def step(tuner: "Tuner", job: Job, resumed: Checkpoint | None, stop: Stop) -> None:
    """Let the trainer step until it is done or told to stop; only meanwhile does SIGTERM wait for a step to end.

    Raises:
        TrainingError: the GPU has not enough memory, with the settings that need less.
    """
    import torch

    stop.stepping = True
    try:
        tuner.train(resume_from_checkpoint=str(resumed.folder) if resumed else None)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"train: out of memory at step {tuner.state.global_step + 1}; {memory_advice(job)}"
        ) from error
    finally:
        stop.stepping = False


def arguments(job: Job, plan: Preflight, fresh: bool) -> "SFTConfig":
    """Say to the Trainer what is settled; when to log, measure and save is the Conductor's part."""
    import torch
    from trl.trainer.sft_config import SFTConfig

    settings, device = job.settings, find_device()
    dtype, gpu = compute_type(settings.method, device), device != "cpu"
    checkpointing = gpu if settings.gradient_checkpointing == "auto" else settings.gradient_checkpointing
    optimizer = ("paged_adamw_8bit" if gpu else "adamw_torch") if settings.optimizer == "auto" else settings.optimizer
    return SFTConfig(
        output_dir=str(job.checkpoints),
        max_steps=plan.steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=SCHEDULES[settings.schedule],
        warmup_steps=plan.warmup_steps,
        max_grad_norm=settings.max_grad_norm,
        weight_decay=settings.weight_decay,
        optim=optimizer,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=not gpu,
        activation_checkpointing=checkpointing,
        max_length=settings.max_tokens,
        packing=settings.packing,
        eval_packing=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="sequential",
        eval_on_start=fresh and plan.measures,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=gpu,
        seed=settings.seed,
        data_seed=settings.seed,
    )


def train_in_full_precision(model: Any) -> None:
    """Hold the adapter in 32 bits: SFTTrainer puts it into bfloat16 on a 4-bit base, where small updates round to 0."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def score_answers_only() -> None:
    """Let TRL's output head compute trained positions only on a CPU as well, as it does on a GPU.

    The loss is the same; the head is the largest matrix, and most tokens are not trained.
    """
    from trl.trainer import utils as trl_utils

    trl_utils._use_triton = lambda device: True


def require_apart(tuner: "Tuner", units: Sequence[Unit]) -> None:
    """Prove that a row in a pack does not see the row before it: another one there must change nothing.

    Raises:
        TrainingError: it does, so that this model must be trained without packing.
    """
    import torch

    others = [len(tuner.processing_class) // 3, len(tuner.processing_class) // 2]
    size = min(units[0]["seq_lengths"][0], 64)
    probe = units[0]["input_ids"][:size]
    scores = []
    tuner.model.eval()
    for other in others:
        before: Unit = {"input_ids": [other] * size, "labels": [other] * size}
        batch = tuner.data_collator([joined([before, {"input_ids": probe, "labels": probe}])])
        with torch.no_grad(), tuner.compute_loss_context_manager():
            scored = tuner.model(**tuner._prepare_inputs(batch), fused_lm_head=True)
        scores.append(scored.log_probs[0, size:].float())
    difference = (scores[0] - scores[1]).abs().max().item()
    if difference > 1e-3:
        raise TrainingError(
            f"train: with packing, this model lets a row see the one before it (its log-probabilities change by up to "
            f"{difference:.3g}); set train.packing=false"
        )


def memory_advice(job: Job) -> str:
    """Say how the same training fits into less memory."""
    settings = job.settings
    if settings.batch_size > 1:
        half = settings.batch_size // 2
        doubled = math.ceil(settings.rows_per_step / half)
        return f"set train.batch_size={half} and train.accumulation={doubled}: the same result in less memory"
    return "set train.gradient_checkpointing=true, or lower train.max_tokens"
