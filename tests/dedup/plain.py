"""Deduplicate the plain way, rows as objects and all of them at once: what every night is held against."""

from collections.abc import Sequence

from tests.dedup.conftest import Clean
from tunemill.artifacts import digest_of
from tunemill.dedup import jaccard
from tunemill.dedup.clusters import clusters
from tunemill.dedup.contradictions import Asked, answered, asked_of, judge, told
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.dedup.text import conversation_text, normalise
from tunemill.rows import Duplicate, Row


def clean(rows: Sequence[Row], settings: DeduplicateSettings) -> Clean:
    """Keep the oldest row of every cluster that no rule drops."""
    ordered = sorted(rows, key=lambda row: (row.place, row.row_id))
    texts = [normalise(conversation_text(row)) for row in ordered]
    labels = clusters(texts, settings.threshold, settings.shingle, near=settings.near).tolist()
    cases = []
    for places in contradicting(ordered):
        prompt_id = digest_of(asked_of(ordered[places[0]]))
        numbers: dict[str, int] = {}
        answers = [numbers.setdefault(answered(ordered[i]), i) for i in places]
        asked = [Asked.of(ordered[i], prompt_id) for i in places]
        cases.append((places, asked, judge(asked, answers, settings.contradictions)))
    dropped = {places[at] for places, _, verdict in cases for at in verdict.dropped}
    heads: dict[int, int] = {}
    for i, label in enumerate(labels):
        if i not in dropped:
            heads.setdefault(label, i)
    instead = {i: heads[label] for i, label in enumerate(labels) if i not in dropped and heads[label] != i}
    found = []
    for places, asked, verdict in cases:
        for at, i in enumerate(places):
            winner = places[verdict.winner] if verdict.winner >= 0 else None
            stays = instead.get(i) if i not in dropped else None if winner is None else instead.get(winner, winner)
            named = None if stays is None else (ordered[stays].row_id, ordered[stays].source, ordered[stays].line)
            found.append(told(asked[at], at, verdict, named))
    return Clean(
        [ordered[i] for i in sorted(heads.values())],
        [_duplicate(ordered, texts, i, k, settings.shingle) for i, k in instead.items()],
        found,
    )


def contradicting(rows: Sequence[Row]) -> list[list[int]]:
    """Give the places of rows that ask the same, for each prompt with more than one answer."""
    asked: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if prompt := asked_of(row):
            asked.setdefault(prompt, []).append(i)
    return [places for places in asked.values() if len({answered(rows[i]) for i in places}) > 1]


def _duplicate(rows: Sequence[Row], texts: Sequence[str], i: int, k: int, shingle: int) -> Duplicate:
    row, kept, same = rows[i], rows[k], texts[i] == texts[k]
    similarity = round(jaccard(texts[i], texts[k], shingle), 4)
    named = (row.row_id, row.source, row.line, kept.row_id, kept.source, kept.line)
    return Duplicate(*named, similarity, "exact" if same else "near")
