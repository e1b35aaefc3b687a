"""Show a conversation as the model sees it: control tokens written out, and marks around what is trained."""

from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from tunemill.models.chat import Chat
from tunemill.rows import Row

OPEN, CLOSE = "⟦", "⟧"
"""What stands around trained tokens, as in `tunemill preview`."""


class Rendered(NamedTuple):
    """One row as the model sees it."""

    row: Row
    text: str
    tokens: int
    trained: int


class Renderer:
    """Count and write out the tokens of conversations under one model's tokenizer and template."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._chat = Chat(folder)
        self._full = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def lengths(self, row: Row) -> tuple[int, int]:
        """Give the number of tokens, and how many of them are trained."""
        encoded = self._chat.encode(row.messages, row.tools)
        return len(encoded.ids), sum(encoded.trained)

    def render(self, row: Row) -> Rendered:
        """Write a row out; each run of trained tokens stands between ⟦ and ⟧."""
        encoded = self._chat.encode(row.messages, row.tools)
        text, end, before = "", 0, ""
        for trained, run in groupby(encoded.trained):
            end += len(list(run))
            # From the start each time: many tokenizers write the first token of a text otherwise.
            whole = self._full.decode(encoded.ids[:end], skip_special_tokens=False)
            piece, before = whole[len(before) :], whole
            text += f"{OPEN}{piece}{CLOSE}" if trained else piece
        return Rendered(row, text, len(encoded.ids), sum(encoded.trained))
