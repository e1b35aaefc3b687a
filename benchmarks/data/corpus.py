"""Make conversations of which it is known what is a copy of what: seeded, of invented words, the same everywhere.

90 % of the rows are new. Of these one in ten fills one of 40 templates, with 80 characters of its own in the prompt and
80 in the answer, and one in thirty gives one of 20 stock answers: they look alike and are no duplicates. 5 % are exact
copies of an earlier row; 5 % are near copies, in equal parts: other letter case, other spacing, one to three typos, one
word in fifteen changed, or reworded (a greeting, synonyms, thanks). Rows come in the order of their time, so the first
of its kind is the oldest.
"""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

NEAR = ("case", "space", "typo", "words", "reworded")
VOCABULARY = 20_000
TEMPLATES = 40
STOCK = 20
CHUNK = 20_000
"""Rows whose words are drawn at once; part of what the seed means."""
START = 1_767_225_600
"""2026-01-01 in seconds since 1970; a row comes every 30 seconds."""

Ints = npt.NDArray[np.int64]


class Conversation(NamedTuple):
    """One generated row and what it is."""

    prompt: str
    answer: str
    kind: str
    """base, template, stock, exact, or one of NEAR."""
    origin: int
    """Number of the row that it is a copy of; its own where it is none."""


class Words:
    """Draw text from invented words whose frequencies fall as those of a language do."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.RandomState(seed)
        syllables = [c + v + e for c in "bdfgklmnprstvwz" for v in "aeiou" for e in ("", "n", "r", "s", "l")]
        made: dict[str, None] = {}
        while len(made) < VOCABULARY:
            length = 1 if len(made) < 120 else 2 + self.draw.randint(0, 3)
            made["".join(syllables[k] for k in self.draw.randint(0, len(syllables), length))] = None
        plain = list(made)
        self.plain = plain
        self.forms = np.array([*plain, *(f"{w}," for w in plain), *(f"{w}." for w in plain)], object)
        weight = 1 / (np.arange(VOCABULARY) + 2.7)
        self.reach = np.cumsum(weight / weight.sum())

    def texts(self, lengths: Ints) -> list[str]:
        """Give one text for each number of words."""
        total = int(lengths.sum())
        words = np.searchsorted(self.reach, self.draw.random_sample(total)).clip(0, VOCABULARY - 1)
        mark = self.draw.random_sample(total)
        forms = self.forms[words + VOCABULARY * ((mark < 0.08).astype(np.int64) + (mark < 0.04))].tolist()
        ends = np.cumsum(lengths)
        return [" ".join(forms[start:end]) for start, end in zip(ends - lengths, ends, strict=True)]


def conversations(count: int, seed: int = 7, answer_words: tuple[int, int] = (16, 240)) -> Iterator[Conversation]:
    """Yield `count` conversations; fewer or more of the same seed begin with the same ones.

    `answer_words` are the fewest and the most words of an answer.
    """
    words, draw = Words(seed), random.Random(seed)
    synonym = dict(zip(words.plain[:4_000:2], words.plain[1:4_000:2], strict=True))
    templates = [text[: draw.randint(60, 90)] for text in words.texts(np.full(2 * TEMPLATES, 20))]
    stock = words.texts(np.full(STOCK, 18))
    bases: list[tuple[int, str, str]] = []
    number = 0
    while number < count:
        prompts = words.texts(words.draw.randint(8, 56, CHUNK))
        answers = words.texts(words.draw.randint(answer_words[0], answer_words[1] + 1, CHUNK))
        for prompt, answer in zip(prompts, answers, strict=True):
            if number == count:
                return
            choice = draw.random()
            if choice >= 0.1 or not bases:
                kind, prompt, answer = _new(draw, prompt, answer, templates, stock)
                bases.append((number, prompt, answer))
                yield Conversation(prompt, answer, kind, number)
            else:
                origin, prompt, answer = bases[draw.randrange(len(bases))]
                kind = "exact" if choice < 0.05 else NEAR[number % len(NEAR)]
                yield Conversation(*_copied(draw, kind, prompt, answer, synonym, words.plain), kind, origin)
            number += 1


def write(path: Path, count: int, seed: int = 7, start: int = 0) -> None:
    """Write the conversations from `start` to `count` as JSONL of instruction rows with user and time.

    The truth lies beside it as .npz: `kind` and `origin` of each line.
    """
    kinds, origins = [], []
    people = np.random.RandomState(seed).zipf(1.3, count) % max(count // 10, 1)
    with path.open("wb") as file:
        for number, row in enumerate(islice(conversations(count, seed), start, None), start):
            record = {
                "instruction": row.prompt,
                "output": row.answer,
                "user_id": f"u{people[number]:06d}",
                "created_at": START + 30 * number,
            }
            file.write(orjson.dumps(record) + b"\n")
            kinds.append(row.kind)
            origins.append(row.origin)
    np.savez(path.with_suffix(".npz"), kind=np.array(kinds), origin=np.array(origins, np.int64))


def _new(draw: random.Random, prompt: str, answer: str, templates: list[str], stock: list[str]) -> tuple[str, str, str]:
    choice = draw.random()
    if choice < 0.1:
        family = draw.randrange(TEMPLATES)
        opening, closing = templates[family], templates[TEMPLATES + family]
        return "template", f"{opening}: {prompt[:80]}", f"{answer[:80]} {closing}"
    if choice < 0.1 + 1 / 30:
        return "stock", f"{prompt} {answer[:200]}", draw.choice(stock)
    form = draw.randrange(20)
    if form == 0:
        answer = f'```python\nprint("{answer}")\n```\n'
    elif form == 1:
        answer = answer.replace(". ", ".\n\n- ")
    elif form == 2:
        answer = f"“{answer[:100]}” — café, 你好 \U0001f600 {answer[100:]}"
    return "base", prompt, answer


def _copied(
    draw: random.Random, kind: str, prompt: str, answer: str, synonym: dict[str, str], vocabulary: list[str]
) -> tuple[str, str]:
    if kind == "exact":
        return prompt, answer
    if kind == "case":
        change = draw.choice([str.upper, str.lower, str.title])
        return change(prompt), change(answer)
    if kind == "space":
        return draw.choice(["", "  ", "\n"]) + prompt.replace(" ", "  ", 3) + draw.choice(
            [" ", "!", "\n\n"]
        ), f" {answer}"
    if kind == "typo":
        return _mistyped(draw, prompt), answer
    if kind == "words":
        return _exchanged(draw, prompt, vocabulary), _exchanged(draw, answer, vocabulary)
    said = " ".join(synonym.get(word, word) if draw.random() < 0.35 else word for word in prompt.split(" "))
    return draw.choice(["Please ", "Could you please ", "Hi, "]) + said + draw.choice(
        [" Thanks.", " Be brief.", ""]
    ), answer


def _mistyped(draw: random.Random, text: str) -> str:
    letters = list(text)
    for _ in range(draw.randint(1, 3)):
        at, change = draw.randrange(1, len(letters) - 1), draw.randrange(3)
        if change == 0:
            letters[at], letters[at - 1] = letters[at - 1], letters[at]
        elif change == 1:
            del letters[at]
        else:
            letters.insert(at, draw.choice("abcdefghijklmnopqrstuvwxyz"))
    return "".join(letters)


def _exchanged(draw: random.Random, text: str, vocabulary: list[str]) -> str:
    words = text.split(" ")
    for _ in range(max(1, len(words) // 15)):
        words[draw.randrange(len(words))] = draw.choice(vocabulary)
    return " ".join(words)
