"""Find the rows that hold an item of a benchmark: a model that trained on them would be praised for what it remembers.

A row counts as contaminated when it shares 13 words in a row with an item, or its prompt is nearly one of the item's
texts. 13 words are what EleutherAI's lm-evaluation-harness takes (docs/decontamination.md), which says that GPT-3's
authors took 8 to 13. Words are those of `normalise`: lower case, without punctuation.
"""

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import orjson

from tunemill.dedup.meetings import meetings
from tunemill.dedup.text import conversation_text, normalise, prompt_text
from tunemill.errors import DataError
from tunemill.rows import Row

WORDS = 13
FEWEST = 5
"""Words from which a text of an item is compared as a whole: a shorter one, such as a label, is said by many."""
EXCERPT = 300


class Item(NamedTuple):
    """One item of a benchmark."""

    source: str
    """sha256 of its file."""
    line: int
    """Line where it begins, from 1; in JSON arrays and parquet its place."""
    texts: tuple[str, ...]
    """Every text in it, normalised, in the order of the file."""


class Contamination(msgspec.Struct, frozen=True):
    """A row, and the item of a benchmark that it holds."""

    row_id: str
    source: str
    line: int
    benchmark: str
    """sha256 of the benchmark's file."""
    benchmark_line: int
    kind: Literal["words", "near-duplicate"]
    words: int
    """Length of the longest run of words that is the benchmark's; 0 where only the whole is alike."""
    similarity: float | None
    """Of the prompt and the item's text, where they are near-duplicates."""
    text: str
    """Beginning of what they share."""


def contaminated(rows: Sequence[Row], items: Sequence[Item], threshold: float) -> list[Contamination]:
    """List the rows that hold an item, each once, in the order of the rows."""
    index = _index(items)
    alike = _alike(rows, items, threshold)
    found = []
    for i, row in enumerate(rows):
        words, at, text = _longest(normalise(conversation_text(row)), index)
        item, similarity = alike.get(i, (at, None))
        if words or similarity is not None:
            chosen = items[at if words else item]
            kind: Literal["words", "near-duplicate"] = "words" if words else "near-duplicate"
            shown = (text or normalise(prompt_text(row)))[:EXCERPT]
            origin = (row.row_id, row.source, row.line, chosen.source, chosen.line)
            found.append(Contamination(*origin, kind, words, similarity, shown))
    return found


def _index(items: Sequence[Item]) -> dict[str, int]:
    """Map every run of 13 words to the first item that has it."""
    index: dict[str, int] = {}
    for place, item in enumerate(items):
        for gram in _grams(" ".join(item.texts)):
            index.setdefault(gram, place)
    return index


def _grams(text: str) -> list[str]:
    """Give every run of 13 words of a text whose words are set apart by one space."""
    starts = [0, *(i + 1 for i, letter in enumerate(text) if letter == " ")]
    ends = [start - 1 for start in starts[1:]] + [len(text)]
    return [text[start:end] for start, end in zip(starts, ends[WORDS - 1 :], strict=False)]


def _longest(text: str, index: dict[str, int]) -> tuple[int, int, str]:
    """Give the longest run that is the benchmarks': its length in words, the item it begins in, and its start."""
    best, run, begun, first = (0, 0, ""), 0, 0, ""
    for gram in _grams(text):
        place = index.get(gram)
        if place is None:
            run = 0
            continue
        if not run:
            begun, first = place, gram
        run += 1
        if run + WORDS - 1 > best[0]:
            best = (run + WORDS - 1, begun, first)
    return best


def _alike(rows: Sequence[Row], items: Sequence[Item], threshold: float) -> dict[int, tuple[int, float]]:
    """Map each row whose prompt is nearly a text of an item to the item that is most like it, and how much."""
    owners: dict[str, int] = {}
    for place, item in enumerate(items):
        for text in item.texts:
            if text.count(" ") + 1 >= FEWEST:
                owners.setdefault(text, place)
    texts = list(owners)
    met = meetings(texts, [normalise(prompt_text(row)) for row in rows], threshold)
    best: dict[int, tuple[int, float]] = {}
    for left, right, similarity in zip(met.left.tolist(), met.right.tolist(), met.similarity.tolist(), strict=True):
        if similarity > best.get(right, (0, 0.0))[1]:
            best[right] = (owners[texts[left]], round(similarity, 4))
    return best


def read(path: Path, digest: str) -> Iterator[Item]:
    """Yield the items of a benchmark's file (JSONL, JSON array, CSV, TSV, parquet, text; but parquet also gzip).

    Raises:
        DataError: the file is not what its ending says.
    """
    ending = Path(path.name.lower().removesuffix(".gz")).suffix
    line = 0
    try:
        for line, record in _records(path, ending):
            texts = tuple(filter(None, (normalise(text) for text in _texts(record))))
            if texts:
                yield Item(digest, line, texts)
    except (ValueError, csv.Error, OSError) as error:
        kind = ending.removeprefix(".") or "text"
        raise DataError(
            f"{path}:{line + 1}  split.benchmarks: cannot be read as {kind}: {error}\n"
            "  Mend the file, or give it the ending of what it is (.jsonl .json .csv .tsv .parquet .txt)."
        ) from error


def _records(path: Path, ending: str) -> Iterator[tuple[int, Any]]:
    if ending == ".parquet":
        import pyarrow.parquet as pq

        yield from enumerate(pq.read_table(path).to_pylist(), start=1)
        return
    data = gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()
    if ending == ".json":
        whole = orjson.loads(data)
        yield from enumerate(whole if isinstance(whole, list) else [whole], start=1)
    elif ending in (".csv", ".tsv"):
        with io.StringIO(data.decode("utf-8-sig"), newline="") as file:
            table = csv.reader(file, delimiter="\t" if ending == ".tsv" else ",", strict=True)
            next(table, None)
            before = table.line_num
            for record in table:
                yield before + 1, record
                before = table.line_num
    else:
        for line, text in enumerate(data.decode("utf-8-sig").split("\n"), start=1):
            if text.strip():
                yield line, orjson.loads(text) if ending in (".jsonl", ".ndjson") else text


def _texts(value: Any) -> Iterable[str]:
    """Give every text inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
