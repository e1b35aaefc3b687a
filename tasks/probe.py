"""Probe: ask of a few rows what a run would make of them, with the tokenizer that is held and the rules that decide."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from tasks.located import located_model
from tasks.model import tokenizer
from tunemill.artifacts import Tokenizer
from tunemill.errors import ModelError
from tunemill.home import Home
from tunemill.models.chat import Chat
from tunemill.models.settings import ModelSettings
from tunemill.quality import expectations
from tunemill.quality.limits import Validated
from tunemill.quality.settings import ValidateSettings
from tunemill.rows import Message, Row
from tunemill.store import Store


class Held(NamedTuple):
    """A tokenizer artifact, checked, and what reads it."""

    folder: Path
    chat: Chat


def held(settings: ModelSettings, fetch: bool = False) -> Held | None:
    """Give the model's tokenizer and template where the store holds them; None where it does not.

    That of a model in a folder is made, once, since nothing has to be downloaded for it; with `fetch` any is.

    Raises:
        ModelError: the model's folder cannot be used, or the model cannot be had.
    """
    source, store = located_model(settings), Store.at(Home.find().store)
    manifest = store.manifest(tokenizer.name, tokenizer.key({"source": source}))
    if manifest is not None:
        artifact = manifest.artifact(Tokenizer)
    elif source.kind == "folder" or fetch:
        artifact = tokenizer.run(store, source)
    else:
        return None
    folder = store.open(artifact)
    return Held(folder, Chat(folder))


class Rules:
    """The rules of `validate` on single rows; those on the whole dataset say nothing about a few."""

    def __init__(self, settings: ValidateSettings, chat: Chat | None) -> None:
        self._settings = settings
        self._chat = chat
        self.refusals: list[str] = []
        """What the chat template says of conversations that it does not take; in a run the first one stops."""

    def check(self, rows: Sequence[Row]) -> Validated:
        """Clean the rows, keep those that meet every rule and reject the others, as a run would.

        Without a tokenizer the length in tokens is not known, and no rule on it rejects a row.

        Raises:
            ConfigError: an expectation does not exist.
            DataError: an expectation could not be computed.
        """
        return expectations.examine(rows, expectations.of_rows(self._settings), self._tokens)

    def _tokens(self, turns: Sequence[Message], tools: str | None) -> int:
        unknown = cast(int, math.nan)  # null in the table of the rules, and a rule on a column skips nulls
        if self._chat is None:
            return unknown
        try:
            return len(self._chat.encode(turns, tools).ids)
        except ModelError as refusal:
            if tools is not None or any(turn.call is not None for turn in turns):
                raise  # a row with tools that the template does not take is rejected, no stop
            self.refusals.append(str(refusal))
            return unknown
