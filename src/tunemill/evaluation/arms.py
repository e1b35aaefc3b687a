"""Put the same question three ways: to the base, to the base with examples before it, and to the tuned model."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, get_args

import msgspec
import orjson

from tunemill.errors import ConfigError, DataError, ModelError, TunemillError
from tunemill.evaluation.settings import FewShotSettings
from tunemill.rows import Message, Row

if TYPE_CHECKING:
    from tunemill.models.chat import Chat

Arm = Literal["base", "few_shot", "tuned"]
ARMS: tuple[Arm, ...] = get_args(Arm)
OPPONENTS: tuple[Arm, ...] = ("base", "few_shot")

TOO_LONG = "too long for the model's context"
REFUSED = "refused by the chat template"


class Request(msgspec.Struct, frozen=True):
    """One question as token ids, with the positions of its right answer where there is one."""

    prompt: list[int]
    whole: list[int]
    """Prompt and right answer; empty for a question without a reference."""
    answer: list[int]
    """Positions in `whole` that belong to the last answer, end of turn included; the same tokens for every arm."""
    failure: str | None = None
    """Why it cannot be asked; then nothing of it may be fed to the model."""


def held_out(test: Sequence[Row], train: Sequence[Row], max_rows: int | None) -> list[Row]:
    """Give the rows to test on, ordered by content hash; the first `max_rows` of them.

    Raises:
        DataError: there are none, one has no answer, or one stands in the training rows too.
    """
    rows = sorted(test, key=lambda row: row.row_id)
    if not rows:
        raise DataError("evaluate: the test set holds 0 rows; raise split.test, or bring more data")
    if silent := [row for row in rows if not row.answer.strip()]:
        raise DataError(
            f"evaluate: {len(silent)} of {len(rows)} test rows have no answer to compare with, "
            f"first {silent[0].row_id} (source {silent[0].source[:12]}, line {silent[0].line}); "
            "validate rejects such rows"
        )
    if seen := {row.row_id for row in rows} & {row.row_id for row in train}:
        raise DataError(
            f"evaluate: {len(seen)} of {len(rows)} test rows stand in the training rows too, first {min(seen)}; "
            "scores on them mean nothing; run split again"
        )
    return rows[:max_rows]


def choose_examples(train: Sequence[Row], settings: FewShotSettings) -> list[Row]:
    """Pick `k` training rows by a seeded hash of their content, rows with an answer not yet picked first.

    The order of `train` does not matter. Fewer than `k` training rows give fewer examples.

    Raises:
        DataError: there is no training row with an answer.
    """
    shuffled = sorted((row for row in train if row.answer.strip()), key=lambda row: _draw(row.row_id, settings.seed))
    if not shuffled:
        raise DataError("evaluate.few_shot: the training set holds no row with an answer to show as an example")
    seen: set[str] = set()
    first: list[Row] = []
    again: list[Row] = []
    for row in shuffled:
        (again if row.answer in seen else first).append(row)
        seen.add(row.answer)
    return (first + again)[: settings.k]


def with_examples(prompt: Sequence[Message], examples: Sequence[Row]) -> tuple[Message, ...]:
    """Put the examples' turns after the prompt's own system message; the examples' system messages are left out."""
    lead = 1 if prompt and prompt[0].role == "system" else 0
    shown = [
        message
        for row in examples
        for message in (*row.prompt, *([row.reply] if row.reply else []))
        if message.role != "system"
    ]
    return (*prompt[:lead], *shown, *prompt[lead:])


def with_tools(tools: str | None, examples: Sequence[Row]) -> str | None:
    """Offer the tools of the examples after those of the question: an example may call what the question has not."""
    every = [
        tool for row_tools in (tools, *(row.tools for row in examples)) for tool in orjson.loads(row_tools or "[]")
    ]
    different = {orjson.dumps(tool): tool for tool in every}
    return orjson.dumps(list(different.values())).decode() if different else None


def request(
    chat: "Chat",
    prompt: Sequence[Message],
    answer: Message | str | None,
    context: int,
    max_new_tokens: int,
    tools: str | None = None,
) -> Request:
    """Turn a question into ids; too long a prompt, or one the chat template refuses, is a failure and not an error.

    Raises:
        ModelError: the prompt's tokens are not how prompt and answer together begin.

    Args:
        answer: the right answer, None for a question without one.
        context: tokens that the model can hold; prompt and right answer, and prompt and `max_new_tokens`, must fit.
        tools: the functions that the model is offered, as a row holds them.
    """
    reply = Message("assistant", answer) if isinstance(answer, str) else answer
    try:
        ids = chat.prompt(prompt, tools)
        encoded = None if reply is None else chat.encode((*prompt, reply), tools)
    except TunemillError:
        return Request([], [], [], REFUSED)
    whole = [] if encoded is None else encoded.ids
    places = [] if encoded is None else [i for i, own in enumerate(encoded.trained) if own and i >= len(ids)]
    if encoded is not None and (whole[: len(ids)] != ids or not places):
        raise ModelError(
            f"evaluate: the chat template writes a prompt of {len(ids)} tokens differently once the answer follows it, "
            "so training and use would not see the same text; take a template whose generation prompt opens the answer"
        )
    too_long = max(len(whole), len(ids) + max_new_tokens) > context
    return Request(ids, whole, places, TOO_LONG if too_long else None)


def as_written(chat: "Chat", row: Row, asked: Request) -> Row:
    """Give the row with a call in its answer as the text that the model would write, to score its answers by."""
    if row.reply is None or row.reply.call is None or not asked.answer:
        return row
    return answering(row, chat.decode(_answer_ids(asked)))


def answering(row: Row, text: str) -> Row:
    """Give the row with another answer; its id stays."""
    return msgspec.structs.replace(row, messages=(*row.prompt, Message("assistant", text)))


def answer_tokens(requests: Mapping[Arm, Sequence[Request]], rows: Sequence[Row], context: int) -> list[int]:
    """Count the tokens of every row's right answer, after checking that the arms can be compared on them.

    Raises:
        DataError: the chat template refuses a row as it stands.
        ModelError: an answer has other tokens after a few-shot prompt than after its own.
        ConfigError: the few-shot prompt cannot be asked on more than half of the rows that the base can be asked.
    """
    for row, base, few_shot in zip(rows, requests["base"], requests["few_shot"], strict=True):
        if base.failure == REFUSED:
            raise DataError(f"evaluate: the chat template refuses test row {row.row_id}; validate rejects such rows")
        if few_shot.failure != REFUSED and _answer_ids(few_shot) != _answer_ids(base):
            raise ModelError(
                f"evaluate: the answer of test row {row.row_id} has {len(few_shot.answer)} tokens after examples and "
                f"{len(base.answer)} without; take a chat template that does not look back"
            )
    able = [few for base, few in zip(requests["base"], requests["few_shot"], strict=True) if base.failure is None]
    unable = [few.failure for few in able if few.failure is not None]
    if len(unable) > len(able) / 2:
        raise ConfigError(
            f"evaluate.few_shot.k: {len(unable):,} of {len(able):,} prompts with examples cannot be asked "
            f"({unable[0]}, {context:,} tokens): the comparison would be with nothing; lower k"
        )
    return [len(request.answer) for request in requests["base"]]


def _answer_ids(request: Request) -> list[int]:
    return [request.whole[place] for place in request.answer]


def _draw(row_id: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{row_id}".encode()).digest()
