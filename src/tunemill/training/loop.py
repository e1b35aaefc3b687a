"""Drive TRL's SFTTrainer: what it may do at each step, what it saves, and what it tells.

The one module of the library that imports torch and trl when it is imported; only `steps.py` imports it, inside a
function, in the training's own process.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.sft_trainer import SFTTrainer

from tunemill import faults
from tunemill.errors import TrainingError
from tunemill.training import checkpoints
from tunemill.training.adapters import load_weights, require_learning, save_adapter
from tunemill.training.events import Events, span
from tunemill.training.job import Preempted, Stop
from tunemill.training.preflight import Preflight
from tunemill.training.schedule import best_step, stops_early, validation_losses
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
        control.should_evaluate = due and self.plan.measures
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
        # With float16 an infinite gradient is how the loss scale finds its size; the loss must be finite all the same.
        require_finite(state.global_step, logs["loss"], None if args.fp16 else logs.get("grad_norm"))
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
        measurements = math.ceil(steps / self.plan.evaluate_every) if self.plan.measures else 0
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
