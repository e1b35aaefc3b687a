"""Quantize a GGUF file and ask it as its users will: llama.cpp loads it in a process of its own.

Prompts are given as messages. What the model is shown is rendered by the chat template and read by the tokenizer that
lie in the file, never by training's: whether both agree is for the caller to compare.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from tunemill import child
from tunemill.evaluation.generation import Answer
from tunemill.exporting import aside, gguf
from tunemill.rows import Message

QuantizationType = Literal["q4_k_m", "q5_k_m", "q6_k", "q8_0"]
FILE_TYPES: dict[QuantizationType, int] = {"q8_0": 7, "q4_k_m": 15, "q5_k_m": 17, "q6_k": 18}
"""Numbers of llama.cpp's `llama_ftype`, which it also stores as general.file_type."""
PROCESS = "tunemill.exporting.llama_process"
BATCH = 128
"""Positions that are computed at a time: their logits take 128 · vocabulary · 4 bytes."""


class Reply(msgspec.Struct, frozen=True):
    """What llama.cpp said to one prompt."""

    prompt_ids: list[int]
    """What it was shown, by the file's own template and tokenizer."""
    ids: list[int] = []
    """What it wrote, the token that ended it included."""
    text: str = ""
    stopped: bool = False
    """It ended its turn by a token, before the limit."""
    logprobs: list[float] = []
    """Log-probability of each of `ids`, in nats."""
    failure: str | None = None

    @property
    def answer(self) -> Answer:
        """The same, in the evaluation's words."""
        return Answer(self.text, len(self.prompt_ids), len(self.ids), self.stopped, self.failure)


class Passage(msgspec.Struct, frozen=True):
    """Token ids, and the positions whose next token is predicted."""

    ids: list[int]
    positions: list[int]
    """Ascending; position t predicts token t + 1."""


def quantize(source: Path, out: Path, kind: QuantizationType) -> dict[str, int]:
    """Write a 16-bit GGUF in fewer bits; the same file gives the same bytes. Return its tensors counted by type.

    Tensors whose rows are no multiple of 256 weights fall back to wider types, which the count shows.

    Raises:
        MissingExtra: cyllama is not installed.
        ModelError: the source is not whole, or llama.cpp refuses it.
    """
    gguf.head(source)
    part = out.with_name(f".{out.name}.part")
    job = {"kind": "quantize", "model": str(source), "out": str(part), "file_type": FILE_TYPES[kind]}
    try:
        aside.run(PROCESS, job, out.parent)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return gguf.types(out)


def ask(
    model: Path,
    prompts: Sequence[Sequence[Message] | list[int]],
    max_new_tokens: int,
    context: int,
    scratch: Path,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Reply]:
    """Answer every prompt greedily, one after another, in the order given; a reply depends on its own prompt alone.

    Args:
        prompts: conversations, or token ids that are shown as they are.
        context: tokens that the longest prompt and its answer take together; a longer one is a failure in its place.
        scratch: folder that may hold files while this runs.
        on_done: hears how many are answered.

    Raises:
        MissingExtra: xllamacpp is not installed.
        ModelError: the file is not whole, has no chat template, or llama.cpp cannot load it.
    """
    gguf.template(model)
    turns = [[m.fields if isinstance(m, Message) else m for m in prompt] for prompt in prompts]
    replies: list[Reply] = []

    def hear(event: child.Event) -> None:
        replies.append(msgspec.convert(event["reply"], Reply))
        on_done(len(replies))

    job = {"kind": "ask", "prompts": turns, "max_new_tokens": max_new_tokens, "context": context}
    aside.run(PROCESS, _with(job, model), scratch, hear)
    return replies


def score(
    model: Path,
    passages: Sequence[Passage],
    out: Path,
    on_done: Callable[[int], None] = lambda _: None,
    batch: int = BATCH,
) -> None:
    """Write next-token log-probabilities at every position of every passage, in their order, to a `.npy` file.

    The file holds (positions, vocabulary) in nats, float32; read it with `np.load(out, mmap_mode="r")`.

    Args:
        on_done: hears how many passages are done.
        batch: positions that are computed at a time. Another number gives slightly other values for a file of few
            bits, since llama.cpp quantizes what flows through such a model as well.

    Raises:
        MissingExtra: cyllama is not installed.
        ModelError: the file is not whole, llama.cpp cannot load it, or a token is not in its vocabulary.
    """
    gguf.head(model)
    job = {"kind": "score", "passages": msgspec.to_builtins(list(passages)), "out": str(out), "batch": batch}
    aside.run(PROCESS, _with(job, model), out.parent, lambda event: on_done(event["done"]))


def _with(job: Mapping[str, Any], model: Path) -> dict[str, Any]:
    return {**job, "model": str(model)}
