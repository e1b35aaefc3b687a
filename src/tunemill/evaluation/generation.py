"""Ask a model in batches: greedy answers, and the likelihood of the right ones.

Nothing is dropped: what cannot be answered (too long, out of memory, empty) stays in its place as a failure.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

if TYPE_CHECKING:
    import torch

    from tunemill.models.chat import Chat

OUT_OF_MEMORY = "out of memory"
T = TypeVar("T")


class Answer(msgspec.Struct, frozen=True):
    """What came back for one prompt; `text` is "" wherever `failure` gives a reason."""

    text: str
    prompt_tokens: int
    new_tokens: int = 0
    finished: bool = False
    """The model ended its turn by itself, before `max_new_tokens`."""
    failure: str | None = None


class Likelihood(msgspec.Struct, frozen=True):
    """How surprised the model was by the right answer, end of turn included."""

    nll: float
    """Summed over the answer's tokens, in nats; 0 where `failure` gives a reason."""
    tokens: int
    failure: str | None = None


def generate(
    model: Any,
    chat: "Chat",
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Answer]:
    """Answer every prompt greedily, in the order given; `on_done` hears how many more are answered.

    The model's own generation settings (temperature, repetition penalty, ...) are set aside, so that every arm decodes
    alike. Batches hold prompts of similar length, padded on the left, and an answer ends at the first of
    `chat.end_ids`. On a GPU and in bfloat16 the batch a prompt lands in can change the last digits of its logits, and
    so, rarely, a token.
    """
    import torch
    from transformers import GenerationConfig

    model.eval()
    model.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=sorted(chat.end_ids),
        pad_token_id=chat.pad_id,
    )

    def run(batch: list[int]) -> list[Answer]:
        ids, mask = _pad_left([prompts[i] for i in batch], chat.pad_id, model.device)
        with torch.inference_mode():
            out = model.generate(input_ids=ids, attention_mask=mask)
        new = out[:, ids.shape[1] :].tolist()
        return [_answer(chat, prompts[i], tokens) for i, tokens in zip(batch, new, strict=True)]

    return in_batches(
        [len(prompt) for prompt in prompts],
        batch_size,
        run,
        lambda i: Answer("", len(prompts[i]), failure=OUT_OF_MEMORY),
        on_done,
    )


def likelihoods(
    model: Any,
    wholes: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    pad_id: int,
    batch_size: int,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Likelihood]:
    """Sum the negative log-likelihood of the answer's tokens of every conversation, in the order given.

    Args:
        wholes: token ids of prompt and answer together.
        answers: positions in `wholes` that are scored, ascending, never 0; the logits before the first are not built.
    """
    import torch

    model.eval()

    def run(batch: list[int]) -> list[Likelihood]:
        ids, mask = _pad_left([wholes[i] for i in batch], pad_id, model.device)
        width = ids.shape[1]
        keep = max(len(wholes[i]) - answers[i][0] for i in batch) + 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        with torch.inference_mode():
            logits = model(
                input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=keep, use_cache=False
            ).logits
        found = []
        for row, i in enumerate(batch):
            at = torch.tensor(answers[i], device=ids.device) + width - len(wholes[i])
            scores = logits[row, at - 1 - (width - keep)].float().log_softmax(-1)
            nll = -scores.gather(-1, ids[row, at].unsqueeze(-1)).double().sum().item()
            found.append(_likelihood(nll, len(answers[i])))
        return found

    return in_batches(
        [len(whole) for whole in wholes],
        batch_size,
        run,
        lambda i: Likelihood(0.0, len(answers[i]), OUT_OF_MEMORY),
        on_done,
    )


def in_batches(
    lengths: Sequence[int],
    batch_size: int,
    run: Callable[[list[int]], list[T]],
    failed: Callable[[int], T],
    on_done: Callable[[int], None] = lambda _: None,
) -> list[T]:
    """Call `run` on the indices of similar lengths, longest first; give the results in the order of `lengths`.

    When memory runs out the batch is halved, also for what follows; a single item that does not fit becomes
    `failed(index)`. Any other exception passes through: a bug must not look like a wrong answer.
    """
    waiting = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    results: dict[int, T] = {}
    size = batch_size
    while waiting:
        batch = waiting[:size]
        found = _unless_out_of_memory(run, batch)
        if found is None and len(batch) > 1:
            size = (len(batch) + 1) // 2
            continue
        results.update(zip(batch, [failed(batch[0])] if found is None else found, strict=True))
        waiting = waiting[len(batch) :]
        on_done(len(batch))
    return [results[i] for i in range(len(lengths))]


def is_out_of_memory(error: BaseException) -> bool:
    """Recognise what the CUDA allocator, the CPU allocator and Python itself raise, without importing torch."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text))
    )


def _unless_out_of_memory(run: Callable[[list[int]], list[T]], batch: list[int]) -> list[T] | None:
    try:
        return run(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _pad_left(rows: list[Sequence[int]], pad_id: int, device: Any) -> "tuple[torch.Tensor, torch.Tensor]":
    """Give ids and attention mask, both (batch, longest), the padding before each row."""
    import torch

    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = torch.tensor(row)
        mask[number, width - len(row) :] = 1
    return ids.to(device), mask.to(device)


def _answer(chat: "Chat", prompt: Sequence[int], new: list[int]) -> Answer:
    """Cut at the first end of turn; what follows it is padding."""
    end = next((place for place, token in enumerate(new) if token in chat.end_ids), None)
    text = chat.decode(new[:end])
    length = len(new) if end is None else end + 1
    failure = None if text.strip() else "empty answer"
    return Answer(text if failure is None else "", len(prompt), length, end is not None, failure)


def _likelihood(nll: float, tokens: int) -> Likelihood:
    return Likelihood(nll, tokens) if math.isfinite(nll) else Likelihood(0.0, tokens, "likelihood is not finite")
