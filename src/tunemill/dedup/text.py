"""Reduce a row to the text that decides whether two rows are the same."""

import hashlib
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import numpy as np

from tunemill.rows import Message, Row

STRETCH = 1_000
"""Texts that are normalised at once."""
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


def normalise_all(texts: Iterable[str]) -> list[str]:
    """Normalise many texts: ASCII ones in a compiled loop, a stretch that fits the processor's cache at a time."""
    every = list(texts)
    found: list[str] = []
    for start in range(0, len(every), STRETCH):
        stretch = every[start : start + STRETCH]
        plain = _plain_words([text if text.isascii() else "" for text in stretch])
        found += [words or normalise(text) for words, text in zip(plain, stretch, strict=True)]
    return found


def _plain_words(texts: Sequence[str]) -> Iterator[str]:
    from tunemill.dedup import text_kernels as kernels

    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)), out=offsets[1:])
    data = np.frombuffer("".join(texts).encode(), np.uint8)
    words, places = kernels.plain_words(data, offsets, np.frombuffer(_PLAIN, np.uint8))
    joined, ends = words.tobytes().decode(), places.tolist()
    return (joined[start:end] for start, end in zip([0, *ends], ends, strict=False))


@cache
def _words() -> re.Pattern[str]:
    marks = "".join(
        chr(c)
        for c in range(0x300, sys.maxunicode + 1)
        if unicodedata.category(chr(c)) in ("Mn", "Mc") and not _selects(c)
    )
    # The long class of marks is searched one by one, so what stands before all of them is turned down first.
    return re.compile(rf"[^\W_]+(?:(?![\0-\u02ff])[{marks}]+[^\W_]*)*")


def _selects(point: int) -> bool:
    """Tell variation selectors, which choose a picture and carry no sound."""
    return 0xFE00 <= point <= 0xFE0F or 0xE0100 <= point <= 0xE01EF


def conversation_text(row: Row) -> str:
    """Join every turn but the system's, one a line: what makes two rows the same example."""
    return "\n".join(spoken(turn) for turn in row.messages if turn.role != "system")


def spoken(turn: Message) -> str:
    """Give what a turn says; calls with a digest, since a sign or an operator in one does what no comma in a text does.

    `normalise` would make the same text of -5 and 5.
    """
    if turn.call is None or turn.role != "assistant":
        return turn.content
    return f"{turn.said}\n{hashlib.sha256(turn.said.encode()).hexdigest()[:8]}"


def prompt_text(row: Row) -> str:
    """Join the user's turns, one a line: a model that has trained on these has seen the question."""
    return "\n".join(turn.content for turn in row.messages if turn.role == "user")
