"""Train one adapter from two files of rows: preflight, steps, proof that something was learned, results.

    out/adapter/          adapter_model.safetensors, adapter_config.json
    out/training.json     what happened, the same to the byte in every run with the same inputs on the same machine
    out/report/           loss.png, example.md, events.jsonl: for people, with times

A finished training that is started again does no step; a killed one goes on from its newest checkpoint that verifies
and ends as if it had never been killed.
"""

import shutil
import time
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from tunemill import segments
from tunemill.errors import ConfigError, TrainingError
from tunemill.rows import Row
from tunemill.splits.newest import newest
from tunemill.training import checkpoints
from tunemill.training.adapters import adapter_norm, load_weights, output_change, require_learning, save_adapter
from tunemill.training.checkpoints import Checkpoint
from tunemill.training.data import examination, lesson, tokenized
from tunemill.training.events import Events, span
from tunemill.training.job import Job, Stop
from tunemill.training.methods import attach, compute_type, find_device, load_base, loses_gradients
from tunemill.training.preflight import (
    Preflight,
    TokenizedRow,
    TokenRules,
    fitting,
    marked_example,
    preflight,
    refuse,
    typical,
)
from tunemill.training.report import example_page, loss_curve
from tunemill.training.schedule import best_step, finished, stops_early, training_losses, validation_losses
from tunemill.training.steps import do_steps

if TYPE_CHECKING:
    from peft import PeftModel


class Prepared(msgspec.Struct, frozen=True):
    """What passed the preflight."""

    plan: Preflight
    train: list[TokenizedRow]
    validation: list[TokenizedRow]
    example: str
    """One row as text, its trained tokens marked."""
    probe: list[int]
    """The ids of that row."""


def train(job: Job, events: Events, stop: Stop) -> None:
    """Do the job; afterwards `job.out` holds the adapter, training.json and the report.

    Raises:
        DataError: the preflight found rows that would train nothing or a wrong thing; no step was done.
        ModelError: the base model or its chat template cannot be used.
        TrainingError: the training broke down, or its end cannot be trusted.
        Preempted: told to stop; the next start goes on from the newest checkpoint.
    """
    began = time.monotonic()
    prepared = prepare(job, events)
    model = untrained(job)
    history = trained(job, model, prepared, events, stop)
    facts = proven(job, model, prepared, history)
    write(job, model, facts, prepared)
    events.tell(
        "done",
        f"done: {facts['steps_done']} of {facts['steps_planned']} steps in {span(time.monotonic() - began)}, "
        f"kept is step {facts['chosen_step']}",
        **{name: facts[name] for name in ("steps_planned", "steps_done", "chosen_step", "validation_loss")},
    )
    shutil.copyfile(job.events, job.out / "report" / "events.jsonl")


def prepare(job: Job, events: Events) -> Prepared:
    """Tokenise both sets, look at every token, tell what was found, and stop where it must not be trained on."""
    from transformers import AutoTokenizer

    from tunemill.models.chat import Chat

    chat = Chat(job.tokenizer)
    tokenizer = AutoTokenizer.from_pretrained(job.tokenizer, local_files_only=True)
    rules = TokenRules(tokenizer.bos_token_id, tuple(sorted(chat.end_ids)), job.settings.max_tokens)
    train_rows = tokenized(chat, lessons(job, events))
    validation_rows = tokenized(chat, segments.read(job.validation)) if job.validation else []
    plan = preflight(train_rows, validation_rows, rules, job.settings)
    shown = typical(fitting(train_rows, rules))
    example = marked_example(shown, lambda ids: str(tokenizer.decode(ids)))
    counts = plan.train
    events.tell(
        "preflight",
        f"preflight: {counts.kept:,} rows, {counts.tokens:,} tokens, {counts.trained_tokens:,} of them trained "
        f"({counts.trained_min:,} to {counts.trained_max:,} a row); {plan.steps:,} steps of {plan.rows_per_step:,}",
        **msgspec.to_builtins(plan),
        example=example,
    )
    refuse(plan, job.settings)
    return Prepared(plan, fitting(train_rows, rules), fitting(validation_rows, rules), example, shown.encoded.ids)


def lessons(job: Job, events: Events) -> list[Row]:
    """Read the rows to train on: all, or the newest where they are bounded."""
    most = job.settings.max_rows
    if most is None:
        return segments.read(job.train)
    if job.dealt is None:
        raise ConfigError("train.max_rows needs the split's ledger, and this job names no split; add `dealt`")
    found = newest(job.train, job.dealt, most)
    count = len(found.rows)
    events.tell(
        "rows",
        f"train.max_rows: the newest {count:,} of {found.held:,} rows, from {found.groups:,} groups",
        **{"rows": count, "held": found.held, "groups": found.groups},
    )
    return found.rows


def untrained(job: Job) -> "PeftModel":
    """Load the base and put untrained adapters on it.

    Raises:
        TrainingError: a 4-bit layer would lose its gradients at the first evaluation.
    """
    method = job.settings.method
    model = attach(load_base(job.model, method, find_device()), method, job.settings.seed)
    if layers := loses_gradients(model):
        raise TrainingError(f"train: {len(layers)} 4-bit layers would lose their gradients, such as {layers[0]}")
    return model


def trained(job: Job, model: "PeftModel", prepared: Prepared, events: Events, stop: Stop) -> list[dict[str, Any]]:
    """Do the steps that no verified checkpoint holds yet; give the log of the whole training."""
    job.checkpoints.mkdir(parents=True, exist_ok=True)

    def refused(step: int, reason: str) -> None:
        events.tell("refused", f"checkpoint of step {step} is set aside: {reason}", step=step, reason=reason)

    resumed = checkpoints.newest_verified(job.checkpoints, job.identity, refused)
    trainable, total = model.get_nb_trainable_parameters()
    going_on = f"; going on after step {resumed.step}" if resumed else ""
    events.tell(
        "start",
        f"trainable: {trainable:,} of {total:,} parameters ({trainable / total:.2%}){going_on}",
        steps=prepared.plan.steps,
        trainable=trainable,
        total=total,
        resumed_from=resumed.step if resumed else None,
    )
    if resumed and finished(resumed.history, prepared.plan.steps, job.settings.early_stopping):
        return resumed.history
    learn, measure = lesson(prepared.train, job.settings), examination(prepared.validation)
    return do_steps(job, model, prepared.plan, learn, measure, resumed, events, stop)


def proven(job: Job, model: "PeftModel", prepared: Prepared, history: list[dict[str, Any]]) -> dict[str, Any]:
    """Set the model to the step that is kept, prove that it learned, and give the facts of the training.

    Raises:
        TrainingError: the kept checkpoint does not verify, a weight is not finite, an adapter did not move, or the
            model answers as if it had none.
    """
    losses, measured = training_losses(history), validation_losses(history)
    done, plan = losses[-1][0], prepared.plan
    kept = chosen(job, best_step(measured) or done)
    load_weights(model, kept.folder)
    require_learning(model)
    change = output_change(model, prepared.probe)
    if change == 0:
        raise TrainingError(f"train: after {done} steps the model answers exactly as before; nothing was learned")
    trainable, total = model.get_nb_trainable_parameters()
    device = find_device()
    return {
        "method": job.settings.method.kind,
        "compute_dtype": str(compute_type(job.settings.method, device)).removeprefix("torch."),
        "device": device.partition(":")[0],
        "trainable": trainable,
        "total": total,
        "trained_tokens": plan.train.trained_tokens,
        "steps_planned": plan.steps,
        "steps_done": done,
        "stopped_early": done < plan.steps and stops_early(measured, job.settings.early_stopping),
        "chosen_step": kept.step,
        "validation_loss": dict(measured).get(kept.step),
        "base_validation_loss": dict(measured).get(0),
        "training_losses": losses,
        "validation_losses": measured,
        "adapter_norm": adapter_norm(model),
        "output_change": change,
        "rows_held": segments.count(job.train),
        "preflight": msgspec.to_builtins(plan),
    }


def chosen(job: Job, step: int) -> Checkpoint:
    """Give the verified checkpoint of the step that is kept."""
    kept = checkpoints.verified(job.checkpoints, step, job.identity)
    if kept is None:
        raise TrainingError(f"train: the checkpoint of step {step} was damaged after it was saved; train again")
    return kept


def write(job: Job, model: "PeftModel", facts: dict[str, Any], prepared: Prepared) -> None:
    """Write the adapter, training.json and the report."""
    save_adapter(model, job.out / "adapter")
    (job.out / "training.json").write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2) + b"\n")
    report = job.out / "report"
    report.mkdir(exist_ok=True)
    loss_curve(report / "loss.png", facts["training_losses"], facts["validation_losses"], facts["chosen_step"])
    (report / "example.md").write_text(example_page(prepared.example), encoding="utf-8")
