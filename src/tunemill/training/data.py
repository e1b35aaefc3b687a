"""Turn rows into what the Trainer gets, and nothing else: ids, labels and, with packing, where each row ends."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from tunemill.rows import Row
from tunemill.training.preflight import TokenizedRow
from tunemill.training.schedule import order, pack
from tunemill.training.settings import TrainSettings

if TYPE_CHECKING:
    from tunemill.models.chat import Chat

IGNORED = -100
"""Label of a token that is not trained."""
Unit = dict[str, list[int]]
"""One row or pack: input_ids, labels and, in a pack, seq_lengths."""


class Lesson(msgspec.Struct, frozen=True):
    """What the steps learn from, in the order in which they do."""

    units: list[Unit]
    order: list[int]
    """Numbers of units, step after step."""
    step_tokens: list[int]
    """Tokens of each step, padding left out."""


def tokenized(chat: "Chat", rows: Sequence[Row]) -> list[TokenizedRow]:
    """Turn rows into ids and masks, and note where the model's own template would give other ids."""
    encoded = [(row, chat.encode(row.messages, row.tools)) for row in rows]
    return [
        TokenizedRow(row, seen, list(chat.stock_ids(row.messages, row.tools)) != list(seen.ids))
        for row, seen in encoded
    ]


def lesson(rows: Sequence[TokenizedRow], settings: TrainSettings) -> Lesson:
    """Lay out all steps over rows that need no cut."""
    whole = packs(rows, settings.max_tokens) if settings.packing else [unit(row) for row in rows]
    lengths = [len(one["input_ids"]) for one in whole]
    dealt = order(lengths, settings)
    steps = (dealt[at : at + settings.rows_per_step] for at in range(0, len(dealt), settings.rows_per_step))
    return Lesson(whole, dealt, [sum(lengths[number] for number in step) for step in steps])


def examination(rows: Sequence[TokenizedRow]) -> list[Unit]:
    """Lay out the validation rows from long to short, so that a forward pass holds little padding; never packed."""
    return [unit(row) for row in sorted(rows, key=lambda row: (-row.tokens, row.row.row_id))]


def unit(row: TokenizedRow) -> Unit:
    """Label a row's trained tokens with themselves and all others as ignored."""
    pairs = zip(row.encoded.ids, row.encoded.trained, strict=True)
    return {
        "input_ids": list(row.encoded.ids),
        "labels": [token if trained else IGNORED for token, trained in pairs],
    }


def packs(rows: Sequence[TokenizedRow], capacity: int) -> list[Unit]:
    """Put rows end to end into packs of at most `capacity` tokens."""
    single = [unit(row) for row in rows]
    return [joined([single[n] for n in numbers]) for numbers in pack([row.tokens for row in rows], capacity)]


def joined(parts: Sequence[Unit]) -> Unit:
    """Put units end to end and keep their lengths, from which the model knows where each begins."""
    columns = {name: [token for part in parts for token in part[name]] for name in ("input_ids", "labels")}
    return {**columns, "seq_lengths": [len(part["input_ids"]) for part in parts]}
