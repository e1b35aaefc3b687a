"""Say what the data page is made of: what became of every row between the raw files and training."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from tunemill.quality.balance import Labels, crowd_warning, warnings_of
from tunemill.quality.funnel import Funnel, Place
from tunemill.quality.page_rows import Contradicted, Named, stays_and_goes
from tunemill.quality.page_settings import BalanceSettings, PageSettings, Task
from tunemill.quality.rendered import Rendered
from tunemill.rows import Duplicate, Row

T = TypeVar("T")
ANSWERS = 6
"""Answers of one prompt that are shown."""
CLUSTERS = 5
"""Clusters of duplicates that are named."""


class Copies(msgspec.Struct, frozen=True):
    """What deduplication dropped."""

    exact: int
    near: int
    largest: list[tuple[Place, int]]
    """Rows that stay and how many rows each stands for, itself counted; the largest five."""


class Contradictions(msgspec.Struct, frozen=True):
    """Prompts with more than one answer, and what became of their rows."""

    prompts: int
    undecided: int
    """Prompts of which no rule dropped a row."""
    rows: dict[str, int]
    """Outcome (kept, dropped, duplicate) → rows."""


class Facts(msgspec.Struct, frozen=True):
    """What the page is made of and a program may want to read: page.json. No text of any row, no file name."""

    funnel: Funnel
    files: dict[str, dict[str, int]]
    """Digest of a source file → rows read, left out by each stage, and on each side."""
    copies: Copies
    contradictions: Contradictions
    balance: list[Labels]
    largest_group: int
    """Rows of the largest group that the split dealt whole."""
    sampled: int
    """Training rows that were tokenised: all, or 2,000 at equal distances."""
    tokens: list[int]
    """Tokens of each sampled row."""
    trained: list[int]
    """Trained tokens of each."""
    warnings: list[str] = []
    """What a person should know before training."""


class Pair(msgspec.Struct, frozen=True):
    """A dropped near-duplicate beside the row that stays."""

    stays: Row
    dropped: Row
    similarity: float


class AnswerShown(msgspec.Struct, frozen=True):
    """One of the answers that a prompt has."""

    first: Contradicted
    """The oldest row that gives it."""
    rows: dict[str, int]
    """Outcome → rows that give it."""


@dataclass(frozen=True)
class Page:
    """The facts, and what only people read."""

    facts: Facts
    settings: PageSettings
    task: Task
    certificate: Mapping[str, Any]
    contradictions: Sequence[AnswerShown]
    """The answers of the prompts that are shown."""
    pairs: Sequence[Pair]
    examples: Sequence[Rendered]
    names: Mapping[str, str]
    """Digest of a source file → its name."""
    links: Mapping[str, str]
    """What is linked → its path from the page; what is not here is left out."""


def copies(duplicates: Iterable[Duplicate]) -> Copies:
    """Count duplicates by kind, and the rows of the largest clusters."""
    kinds: Counter[str] = Counter()
    sizes: Counter[Place] = Counter()
    for each in duplicates:
        kinds[each.kind] += 1
        sizes[Place(each.kept_source, each.kept_line)] += 1
    largest = sorted(sizes, key=lambda place: (-sizes[place], place.source, place.line))[:CLUSTERS]
    return Copies(kinds["exact"], kinds["near"], [(place, sizes[place] + 1) for place in largest])


def contradictions(listed: Iterable[Contradicted]) -> Contradictions:
    """Count prompts with more than one answer and the outcomes of their rows."""
    prompts: dict[str, bool] = {}
    rows = Counter(dict.fromkeys(("kept", "dropped", "duplicate"), 0))
    for each in listed:
        rows[each.outcome] += 1
        prompts[each.prompt_id] = prompts.get(each.prompt_id, False) or each.outcome == "dropped"
    return Contradictions(len(prompts), sum(not decided for decided in prompts.values()), dict(rows))


def answers(listed: Iterable[Contradicted], most: int) -> list[AnswerShown]:
    """Give the answers of the first prompts, at most six of each prompt, with the outcomes of the rows that give them.

    Rows come prompt by prompt, the older before the newer.
    """
    found: dict[str, dict[str, list[Contradicted]]] = {}
    for each in listed:
        if each.prompt_id in found or len(found) < most:
            found.setdefault(each.prompt_id, {}).setdefault(each.answer, []).append(each)
    shown = [rows for prompt in found.values() for rows in list(prompt.values())[:ANSWERS]]
    return [AnswerShown(rows[0], dict(Counter(each.outcome for each in rows))) for rows in shown]


def pairs(
    duplicates: Iterable[Duplicate], most: int, find: Callable[[Sequence[Named]], Mapping[Named, Row]]
) -> list[Pair]:
    """Choose near-duplicates to show, the least similar first, up to the most similar, and find their rows."""
    near = [each for each in duplicates if each.kind == "near"]
    near.sort(key=lambda each: (each.similarity, each.source, each.line))
    chosen = at_distances(near, most)
    rows = find([place for each in chosen for place in stays_and_goes(each)])
    named = ((stays_and_goes(each), each.similarity) for each in chosen)
    return [Pair(rows[stays], rows[goes], similarity) for (stays, goes), similarity in named]


def at_distances(items: Sequence[T], most: int) -> list[T]:
    """Choose up to `most` at equal distances, the first and the last among them."""
    last = len(items) - 1
    return [items[i] for i in sorted({round(last * step / max(1, most - 1)) for step in range(most)})] if items else []


def warnings(facts: Facts, settings: BalanceSettings) -> list[str]:
    """Give what a person should know before training, each with its number and the setting that it is measured by."""
    valid = next(step.left for step in facts.funnel.steps if step.stage == "validate")
    found = [text for labels in facts.balance for text in warnings_of(labels, settings)]
    largest = max((size for _, size in facts.copies.largest), default=0)
    found += crowd_warning("one row and its copies make up", largest, valid, settings)
    dealt = sum(facts.funnel.sides.values())
    what = "one group (of similar prompts, or one conversation or user) holds"
    found += crowd_warning(what, facts.largest_group, dealt, settings)
    if undecided := facts.contradictions.undecided:
        prompts = "1 prompt has" if undecided == 1 else f"{undecided:,} prompts have"
        found.append(
            f"deduplicate: {prompts} more than one answer, and no rule says which stays (deduplicate.contradictions: "
            "keep); `newest`, `majority` or `drop` would"
        )
    return found
