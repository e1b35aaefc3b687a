"""Drive TRL's SFTTrainer: what it may do at each step, what it saves, and what it tells.

The one module of the library that imports torch and trl when it is imported; only `trainer.py` imports it, inside a
function, in the training's own process.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl.trainer import utils as trl_utils
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from tunemill import faults
from tunemill.errors import TrainingError
from tunemill.training import checkpoints
from tunemill.training.adapters import load_weights, require_learning, save_adapter
from tunemill.training.checkpoints import Checkpoint
from tunemill.training.data import Lesson, Unit, joined
from tunemill.training.events import Events, span
from tunemill.training.job import Job, Preempted, Stop
from tunemill.training.methods import compute_type, find_device
from tunemill.training.preflight import Preflight
from tunemill.training.schedule import best_step, stops_early, training_losses, validation_losses
from tunemill.training.settings import TrainSettings


class Tuner(SFTTrainer):
    """SFTTrainer on rows that are tokenised already, with checkpoints that can be believed.

    Differs from its parent in four ways: a checkpoint holds the adapter and what resuming needs, and gets a manifest
    before an older one goes; weights are resumed from exactly that file; the validation loss is the mean over tokens,
    not over batches; no model card is written.
    """

    model: Any
    processing_class: Any

    def __init__(self, *, identity: str, keep: int, events: Events, stop: Stop, **options: Any) -> None:
        super().__init__(**options)
        self.identity = identity
        self.keep = keep
        self.events = events
        self.stop = stop

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure the mean negative log-likelihood of the validation set's answer tokens, in nats per token.

        Raises:
            Preempted: the process was told to stop; nothing of the measurement is kept.
        """
        begun = time.perf_counter()
        self.model.eval()
        total, tokens = 0.0, 0
        for batch in self.get_eval_dataloader():
            if self.stop.asked:
                raise Preempted
            with torch.no_grad(), self.compute_loss_context_manager():
                scored = self.model(**self._prepare_inputs(batch), use_cache=False, fused_lm_head=True)
            total -= scored.log_probs.double().sum().item()
            tokens += int(scored.label_mask.sum().item())
        metrics = {"eval_loss": total / tokens, "eval_runtime": time.perf_counter() - begun}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write none: it would name paths of this machine."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        save_adapter(self.model, Path(output_dir or str(self.args.output_dir)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(self.model, Path(resume_from_checkpoint))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[no-untyped-call]
        step, folder = self.state.global_step, Path(str(self.args.output_dir))
        faults.point("train.saved")
        checkpoints.seal(folder / f"checkpoint-{step}", step, self.identity)
        best = best_step(validation_losses(self.state.log_history))
        removed = checkpoints.prune(folder, self.keep, [best] if best else [], self.identity)
        self.events.tell("checkpoint", step=step, best=best, removed=removed)
        faults.point("train.checkpoint")


class Conductor(TrainerCallback):
    """Decide at every step what comes next, and tell how it goes."""

    def __init__(
        self, plan: Preflight, settings: TrainSettings, step_tokens: Sequence[int], events: Events, stop: Stop
    ) -> None:
        self.plan = plan
        self.settings = settings
        self.step_tokens = step_tokens
        self.events = events
        self.stop = stop
        self.learned = False
        self.recent: list[float] = []
        self.evaluation_seconds = 0.0
        self.begun = 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Start the clock of a step."""
        self.begun = time.perf_counter()
        return control

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Ask for what is due after this step: to measure, to save, to end.

        Raises:
            Preempted: told to stop where a measurement is due. A checkpoint without it would lead to another end than
                an uninterrupted training has, so this step is done again.
        """
        faults.point(f"train.step-{state.global_step}")
        last = state.global_step >= self.plan.steps
        due = last or state.global_step % self.plan.evaluate_every == 0
        control.should_log = True
        control.should_evaluate = due and self.plan.validation is not None
        control.should_save = last or state.global_step % self.settings.save_every == 0
        control.should_training_stop = last
        if self.stop.asked:
            if control.should_evaluate:
                raise Preempted
            control.should_save = control.should_training_stop = True
        return control

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        model: Any = None,
        **_: Any,
    ) -> TrainerControl:
        """Tell one step.

        Raises:
            TrainingError: the loss or the gradient is not finite, or an adapter did not move.
        """
        if logs is None or "loss" not in logs:
            return control
        require_finite(state.global_step, logs["loss"], logs.get("grad_norm"))
        if not self.learned and logs["learning_rate"] > 0:
            require_learning(model)
            self.learned = True
        seconds = time.perf_counter() - self.begun
        self.recent = [*self.recent[-19:], seconds]
        if state.global_step % self.settings.logging_every == 0 or state.global_step == self.plan.steps:
            self._tell_step(state.global_step, logs, seconds)
        return control

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> TrainerControl:
        """Save a new best, and end when the validation loss has stopped falling."""
        step, loss = state.global_step, (metrics or {})["eval_loss"]
        require_finite(step, loss, None)
        measured = validation_losses(state.log_history)
        best = best_step(measured) == step
        ends = stops_early(measured, self.settings.early_stopping)
        self.evaluation_seconds = (metrics or {})["eval_runtime"]
        text = f"step {step}: validation loss {loss:.4f}{', the best so far' if best else ''}"
        self.events.tell("evaluation", text, step=step, loss=loss, best=best, stops=ends)
        if step > 0:
            control.should_save = control.should_save or best or ends
            control.should_training_stop = control.should_training_stop or ends
        return control

    def _tell_step(self, step: int, logs: dict[str, Any], seconds: float) -> None:
        rate = self.step_tokens[step - 1] / seconds
        left = self._left(step)
        self.events.tell(
            "step",
            f"step {step}/{self.plan.steps}  loss {logs['loss']:.4f}  {rate:,.0f} tokens/s  {span(left)} left",
            step=step,
            steps=self.plan.steps,
            loss=logs["loss"],
            learning_rate=logs["learning_rate"],
            grad_norm=logs.get("grad_norm"),
            tokens_per_second=round(rate, 1),
            seconds=round(seconds, 3),
            seconds_left=round(left, 1),
        )

    def _left(self, step: int) -> float:
        """Estimate the seconds to the last step from the median of the last 20, with the measurements to come."""
        steps = self.plan.steps - step
        measurements = math.ceil(steps / self.plan.evaluate_every) if self.plan.validation else 0
        return steps * sorted(self.recent)[len(self.recent) // 2] + measurements * self.evaluation_seconds


def require_finite(step: int, loss: float, grad_norm: float | None) -> None:
    """Stop at the first number that is none.

    Raises:
        TrainingError: the loss or the length of the gradient is infinite or not a number.
    """
    for name, value in (("loss", loss), ("gradient's length", grad_norm)):
        if value is not None and not math.isfinite(value):
            raise TrainingError(
                f"train: the {name} is {value} at step {step}; lower train.learning_rate or train.max_grad_norm, or "
                "set train.method.compute_dtype to bfloat16 or float32. Checkpoints before this step are kept"
            )


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
        args=arguments(job, plan, fresh=resumed is None),
        callbacks=[Conductor(plan, job.settings, learn.step_tokens, events, stop)],
    )
    tuner.remove_callback(PrinterCallback)
    train_in_full_precision(model)
    if job.settings.packing:
        require_apart(tuner, learn.units)
    stop.stepping = True
    try:
        tuner.train(resume_from_checkpoint=str(resumed.folder) if resumed else None)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"train: out of memory at step {tuner.state.global_step + 1}; {memory_advice(job)}"
        ) from error
    finally:
        stop.stepping = False
    if not finished(tuner.state.log_history, plan, job.settings):
        if stop.asked:
            raise Preempted
        raise TrainingError(f"train: {tuner.state.global_step} steps were done, {plan.steps} were planned")
    history: list[dict[str, Any]] = tuner.state.log_history
    return history


def arguments(job: Job, plan: Preflight, fresh: bool) -> SFTConfig:
    """Say to the Trainer what is settled; when to log, measure and save is the Conductor's part."""
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
        lr_scheduler_type=_SCHEDULES[settings.schedule],
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
        eval_on_start=fresh and plan.validation is not None,
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
    trl_utils._use_triton = lambda device: True  # type: ignore[attr-defined]


def require_apart(tuner: Tuner, units: Sequence[Unit]) -> None:
    """Prove that a row in a pack does not see the row before it: another one there must change nothing.

    Raises:
        TrainingError: it does, so that this model must be trained without packing.
    """
    ends = [len(tuner.processing_class) // 3, len(tuner.processing_class) // 2]
    size = min(units[0]["seq_lengths"][0], 64)
    probe = units[0]["input_ids"][:size]
    scores = []
    tuner.model.eval()
    for other in ends:
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


def finished(history: Sequence[dict[str, Any]], plan: Preflight, settings: TrainSettings) -> bool:
    """Say whether a log is that of a whole training: all steps, or an end by early stopping."""
    done = max((step for step, _ in training_losses(history)), default=0)
    return done == plan.steps or (done > 0 and stops_early(validation_losses(history), settings.early_stopping))


def memory_advice(job: Job) -> str:
    """Say how the same training fits into less memory."""
    settings = job.settings
    if settings.batch_size > 1:
        half = settings.batch_size // 2
        doubled = math.ceil(settings.rows_per_step / half)
        return f"set train.batch_size={half} and train.accumulation={doubled}: the same result in less memory"
    return "set train.gradient_checkpointing=true, or lower train.max_tokens"


_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
