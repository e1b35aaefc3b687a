"""Ask the adapter as it was trained, and the merged model, in a process of their own: `python -m` this module.

Written to `out`, to be compared with what llama.cpp gives for the same prompts:
    trained.npy, again.npy, merged.npy    (positions, vocabulary) log-probabilities in nats, float32
    answers.jsonl                         one line a row and model
    questions.json                        what was asked, as token ids under both tokenizers

`again` is the adapter run in another way (row by row, answers in larger batches; on a CPU with its base in 16 bits):
how far it lies from `trained` is the noise floor, below which no export can be told from the adapter.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tunemill import child, segments
from tunemill.evaluation import arms, generation, job
from tunemill.evaluation.arms import Request
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.exporting.proof import Places, places
from tunemill.rows import Row, write_lines
from tunemill.section import Section
from tunemill.training.methods import Method

if TYPE_CHECKING:
    from tunemill.models.chat import Chat

Emit = Callable[[dict[str, Any]], None]


class Job(Section):
    """Name everything that is read, and where to write."""

    model: Path
    tokenizer: Path
    adapter: Path
    method: Method
    merged: Path
    """Folder of the merged model, as it ships."""
    test: Path
    """Table of rows; the questions are those of the evaluation."""
    out: Path
    events: Path
    prompts: int
    """Conversations whose next-token distributions are compared."""
    positions: int
    """Token positions that are compared, over all of them."""
    settings: EvaluateSettings


class Questions(msgspec.Struct):
    """What was asked: every row of the evaluation, its prompt under both tokenizers, and the positions compared."""

    row_ids: list[str]
    prompts: list[list[int]]
    """Empty where a row could not be asked, for the evaluation's reason."""
    merged_prompts: list[list[int]]
    forged: list[str]
    """Rows whose text spells a control token, so that servers read their prompts otherwise than training."""
    references: list[str]
    """Right answer of every row as the model would write it, tool calls included."""
    wholes: list[list[int]]
    """Whole conversations of `places`, as token ids."""
    places: Places


def run(asked: Job, emit: Emit) -> None:
    """Write all files; the models are loaded one after another, so that memory holds one at a time."""
    from tunemill.models.chat import Chat
    from tunemill.training.methods import find_device, load_trained

    chat, device = Chat(asked.tokenizer), find_device()
    tested = arms.held_out(segments.read(asked.test), [], asked.settings.max_rows)
    context, _ = job._sizes(asked.model)
    requests = job.put(chat, tested, [], context, asked.settings).tested
    questions = _questions(asked, tested, requests, chat, Chat(asked.merged))
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "questions.json").write_bytes(msgspec.json.encode(questions))
    answers: list[dict[str, Any]] = []

    def on_done(count: int) -> None:
        emit({"event": "answered", "count": count})

    def ask(name: str, model: Any, own: "Chat", prompts: Sequence[list[int]], batch_size: int) -> None:
        wanted = [p for p, r in zip(prompts, requests, strict=True) if r.failure is None]
        limit = asked.settings.max_new_tokens
        found = iter(generation.generate(model, own, wanted, limit, batch_size, on_done))
        for row, request in zip(tested, requests, strict=True):
            said = next(found) if request.failure is None else generation.Answer("", 0, failure=request.failure)
            answers.append({"row_id": row.row_id, "file": name, **msgspec.to_builtins(said)})

    size = asked.settings.batch_size
    model: Any = load_trained(asked.model, asked.method, asked.adapter, device)
    _write_distributions(model, questions, chat.pad_id, size, asked.out / "trained.npy")
    if device == "cpu":
        del model
        model = load_trained(asked.model, asked.method, asked.adapter, device, dequantize=True)
    _write_distributions(model, questions, chat.pad_id, 1, asked.out / "again.npy")
    ask("again", model, chat, questions.prompts, 2 * size)
    del model
    merged = load_merged(asked.merged, device)
    _write_distributions(merged, questions, chat.pad_id, size, asked.out / "merged.npy")
    ask("merged", merged, Chat(asked.merged), questions.merged_prompts, size)
    write_lines(asked.out / "answers.jsonl", answers)


def load_merged(folder: Path, device: str) -> Any:
    """Load a merged checkpoint as any user of transformers would, ready to answer."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", device_map={"": device}, use_safetensors=True, local_files_only=True
    )
    model.eval()
    return model


def _questions(
    asked: Job, tested: Sequence[Row], requests: Sequence[Request], chat: "Chat", merged: "Chat"
) -> Questions:
    fitting = [(row, r) for row, r in zip(tested, requests, strict=True) if r.failure is None][: asked.prompts]
    wholes = [request.whole for _, request in fitting]
    where = places([row.row_id for row, _ in fitting], [len(whole) for whole in wholes], asked.positions)
    return Questions(
        row_ids=[row.row_id for row in tested],
        prompts=[[] if r.failure else r.prompt for r in requests],
        merged_prompts=[
            [] if r.failure else merged.prompt(t.prompt, t.tools) for t, r in zip(tested, requests, strict=True)
        ],
        forged=[row.row_id for row, _ in fitting if _is_forged(chat, row)],
        references=[arms.as_written(chat, row, r).answer for row, r in zip(tested, requests, strict=True)],
        wholes=wholes,
        places=where,
    )


def _is_forged(chat: "Chat", row: Row) -> bool:
    return chat.encode(row.messages, row.tools).ids != chat.stock_ids(row.messages, row.tools)


def _write_distributions(model: Any, questions: Questions, pad_id: int, batch_size: int, path: Path) -> None:
    """Write log-probabilities at the last positions of every conversation, in the order of the conversations."""
    import numpy as np
    import torch

    where, model_width = questions.places, int(model.get_output_embeddings().weight.shape[0])
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(where.total, model_width))
    starts = np.concatenate([[0], np.cumsum(where.counts)])

    def fill(batch: list[int]) -> list[None]:
        ids, mask = generation._pad_left([questions.wholes[i] for i in batch], pad_id, model.device)
        keep = max(where.counts[i] for i in batch) + 1
        spots = (mask.cumsum(-1) - 1).clamp(min=0)
        with torch.inference_mode():
            asked = {"input_ids": ids, "attention_mask": mask, "position_ids": spots, "logits_to_keep": keep}
            logits = model(**asked, use_cache=False).logits
        for row, i in enumerate(batch):
            found = logits[row, keep - 1 - where.counts[i] : keep - 1].float().log_softmax(-1)
            out[starts[i] : starts[i + 1]] = found.cpu().numpy()
        return [None] * len(batch)

    generation.in_batches([len(whole) for whole in questions.wholes], batch_size, fill, lambda i: None)
    out.flush()


if __name__ == "__main__":
    job_file = Job.model_validate_json(Path(sys.argv[1]).read_bytes())
    sys.exit(child.serve(job_file.events, lambda emit: run(job_file, emit)))
