"""Reduce a row to the text that decides whether two rows are the same."""

import re
import sys
import unicodedata
from functools import cache

from tunemill.rows import Row

_PLAIN = bytes(ord(chr(c).lower()) if c < 128 and chr(c).isalnum() else 32 for c in range(256))


def normalise(text: str) -> str:
    """Keep what is said and drop how it is set: NFKC, lower case, one space for each run of other characters.

    Letters and digits stay, with the combining marks that follow them: without its vowel signs much of Hindi, Thai or
    Arabic would read the same. A text that has neither stays as it is, white space joined, so that two emoji or "?"
    and "!" never count as equal. Normalising twice changes nothing.
    """
    if text.isascii():
        words = text.encode().translate(_PLAIN).split()
        return b" ".join(words).decode() or " ".join(text.split())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).lower())
    return " ".join(_words().findall(folded)) or " ".join(folded.split())


@cache
def _words() -> re.Pattern[str]:
    marks = "".join(
        chr(c)
        for c in range(0x300, sys.maxunicode + 1)
        if unicodedata.category(chr(c)) in ("Mn", "Mc") and not _selects(c)
    )
    return re.compile(rf"[^\W_](?:[^\W_]|[{marks}])*")


def _selects(point: int) -> bool:
    """Tell variation selectors, which choose a picture and carry no sound."""
    return 0xFE00 <= point <= 0xFE0F or 0xE0100 <= point <= 0xE01EF


def conversation_text(row: Row) -> str:
    """Join every turn but the system's, one a line: what makes two rows the same example."""
    return "\n".join(turn.content for turn in row.messages if turn.role != "system")


def prompt_text(row: Row) -> str:
    """Join the user's turns, one a line: a model that has trained on these has seen the question."""
    return "\n".join(turn.content for turn in row.messages if turn.role == "user")
