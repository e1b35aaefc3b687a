"""Write the data page: Markdown and pictures, whole without the internet; links lead to the files beside it."""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tunemill.quality.balance import Label, Labels, named
from tunemill.quality.figures import draw_balance, draw_funnel, draw_losses, shown_labels
from tunemill.quality.funnel import SIDES, Loss, Place
from tunemill.quality.histogram import draw
from tunemill.quality.markdown import cell, counted, fenced, quoted, table
from tunemill.quality.page import AnswerShown, Facts, Page, Pair
from tunemill.quality.page_certificate import certificate
from tunemill.quality.rendered import CLOSE, OPEN
from tunemill.quality.sizes import SIZES, size_warning
from tunemill.rows import Row

REASONS = 25
"""Reasons that have a line in the table."""
FILES = 15
"""Source files that have a line in the table."""
BALANCES = 3
"""Fields whose balance is drawn."""
WORDS = 40
"""Words that are shown of a near-duplicate, from shortly before the first that differs."""
BEFORE = 6


def write_page(page: Page, folder: Path) -> None:
    """Write page.md and its pictures; the same page gives the same bytes."""
    facts = page.facts
    draw_funnel(folder / "funnel.png", facts.funnel)
    if facts.funnel.losses:
        draw_losses(folder / "left_out.png", facts.funnel)
    draw(folder / "trained_tokens.png", "trained tokens per training row", facts.trained, [], [], ("rows", ""))
    for number, labels in enumerate(_drawn(facts), 1):
        draw_balance(folder / f"balance_{number}.png", labels, page.settings.balance)
    (folder / "page.md").write_text("\n\n".join(_parts(page)) + "\n", encoding="utf-8")


def _drawn(facts: Facts) -> list[Labels]:
    return [labels for labels in facts.balance if labels.labels][:BALANCES]


def _parts(page: Page) -> Iterator[str]:
    funnel = page.facts.funnel
    yield f"# Data: {', '.join(f'{funnel.sides[side]:,} {side}' for side in SIDES)}"
    yield (
        f"{counted(funnel.read, 'record')} read, {counted(sum(funnel.sides.values()))} dealt, "
        f"{funnel.left_out:,} left out, each with its reason, file and line."
    )
    size = size_warning(page.task.type, funnel.sides["train"])
    told = [*([size] if size else []), *page.facts.warnings]
    yield "\n".join(f"- **Look at this:** {quoted(each, None)}" for each in told) or "Nothing to warn of."
    for head, section in SECTIONS.items():
        yield f"## {head}"
        yield from section(page)


def _funnel(page: Page) -> Iterator[str]:
    losses = page.facts.funnel.losses
    yield "![Rows that went on and were left out, stage by stage](funnel.png)"
    if not losses:
        yield "No record was left out."
        return
    yield "![Rows left out, by reason](left_out.png)"
    yield table(
        ["rows", "stage", "reason", "for example", "there"], "rllll", (_loss(x, page) for x in losses[:REASONS])
    )
    if others := losses[REASONS:]:
        yield f"And {counted(len(others), 'more reason')}, {counted(sum(loss.rows for loss in others))} together."
    if lists := [f"[{name}]({link})" for name, link in page.links.items() if name.endswith(".jsonl")]:
        yield f"All of them: {', '.join(lists)}."


def _loss(loss: Loss, page: Page) -> list[str]:
    place = _place(loss.example, page) if loss.example else ""
    # The details of validate begin with the reason.
    return [f"{loss.rows:,}", loss.stage, cell(loss.reason), place, quoted(loss.detail.removeprefix(loss.reason))]


def _files(page: Page) -> Iterator[str]:
    files = sorted(page.facts.files.items(), key=lambda item: (-item[1]["read"], item[0]))
    kinds = dict.fromkeys(name for _, counts in files for name in counts)
    columns = [name for name in kinds if name in SIDES or any(counts[name] for _, counts in files)]
    lines = [[_file(source, page), *(f"{counts[name]:,}" for name in columns)] for source, counts in files[:FILES]]
    yield table(["file", *columns], "l" + "r" * len(columns), lines)
    if others := files[FILES:]:
        read = sum(counts["read"] for _, counts in others)
        yield f"And {counted(len(others), 'more file')}, {counted(read, 'record')} together."


def _lengths(page: Page) -> Iterator[str]:
    facts = page.facts
    if link := page.links.get("tokens.png"):
        yield "Every row that validate looked at, with the limit that was set:"
        yield f"![Histogram of the tokens per conversation, kept and rejected]({link})"
    if not facts.sampled:
        return
    train = facts.funnel.sides["train"]
    which = "" if facts.sampled == train else f" ({facts.sampled:,} of them, at equal distances)"
    yield (
        f"Of the {counted(train, 'training row')}{which}, {sum(facts.trained) / sum(facts.tokens):.1%} of the tokens "
        "are trained: the answers, each with the token that ends it."
    )
    head = ["tokens per training row", "shortest", "median", "95th percentile", "longest", "all together"]
    yield table(head, "lrrrrr", [_ranked("all", facts.tokens), _ranked("trained", facts.trained)])
    yield "![Histogram of the trained tokens per training row](trained_tokens.png)"


def _ranked(name: str, lengths: Sequence[int]) -> list[str]:
    ranked, last = sorted(lengths), len(lengths) - 1
    numbers = (ranked[0], ranked[last // 2], ranked[round(last * 0.95)], ranked[-1], sum(ranked))
    return [name, *(f"{number:,}" for number in numbers)]


def _duplicates(page: Page) -> Iterator[str]:
    copies = page.facts.copies
    if not copies.exact + copies.near:
        yield "None were found."
        return
    yield f"{copies.exact:,} exact and {copies.near:,} near-duplicates were dropped; the oldest of each cluster stays."
    lines = [[f"{size:,}", _place(place, page)] for place, size in copies.largest]
    yield table(["rows in the cluster", "the one that stays"], "rl", lines)
    if page.pairs:
        yield (
            "Near-duplicates from the least to the most similar; what differs is **bold**. A cluster is linked in a "
            "chain, so two of its rows may be less alike than the threshold."
        )
        yield table(["similarity", "stays", "dropped"], "rll", (_pair(pair, page) for pair in page.pairs))


def _pair(pair: Pair, page: Page) -> list[str]:
    places = [_place(Place(row.source, row.line), page) for row in (pair.stays, pair.dropped)]
    texts = side_by_side(_text(pair.stays), _text(pair.dropped))
    return [f"{pair.similarity:.2f}", *(f"{place}<br>{text}" for place, text in zip(places, texts, strict=True))]


def _text(row: Row) -> str:
    return " ".join(f"{turn.role}: {turn.said}" for turn in row.messages if turn.role != "system")


def side_by_side(left: str, right: str) -> tuple[str, str]:
    """Set the words in bold that only one of two texts has; both begin shortly before the first of them."""
    one, other = left.split(), right.split()
    blocks = difflib.SequenceMatcher(None, one[:1000], other[:1000], autojunk=False).get_matching_blocks()
    alike = blocks[0].size if (blocks[0].a, blocks[0].b) == (0, 0) else 0
    begin = max(0, alike - BEFORE)
    mine = {i for block in blocks for i in range(block.a, block.a + block.size)}
    its = {i for block in blocks for i in range(block.b, block.b + block.size)}
    return _bold(one, mine, begin), _bold(other, its, begin)


def _bold(words: Sequence[str], same: set[int], begin: int) -> str:
    shown = range(begin, min(len(words), begin + WORDS))
    text = " ".join(quoted(words[i]) if i in same else f"**{quoted(words[i])}**" for i in shown)
    ends = ("… " if begin else ""), (" …" if len(words) > begin + WORDS else "")
    return ends[0] + re.sub(r"\*\* \*\*", " ", text) + ends[1]


def _contradictions(page: Page) -> Iterator[str]:
    found = page.facts.contradictions
    if not found.prompts:
        yield "No prompt has more than one answer."
        return
    rows = found.rows
    yield (
        f"{counted(found.prompts, 'prompt')} with more than one answer: {counted(rows['kept'])} kept, "
        f"{rows['duplicate']:,} dropped as duplicates, {rows['dropped']:,} dropped by `deduplicate.contradictions`."
    )
    first = {each.first.prompt_id: each for each in reversed(page.contradictions)}
    lines = (_answer(each, each is first[each.first.prompt_id], page) for each in page.contradictions)
    yield table(["prompt", "answer", "rows", "the oldest", "its time"], "lllll", lines)
    if link := page.links.get("contradictions.jsonl"):
        yield f"Every row, with why it stays or goes: [contradictions.jsonl]({link})."


def _answer(shown: AnswerShown, opens: bool, page: Page) -> list[str]:
    first = shown.first
    rows = ", ".join(f"{rows:,} {outcome}" for outcome, rows in sorted(shown.rows.items()))
    place = _place(Place(first.source, first.line), page)
    return [quoted(first.prompt) if opens else "", quoted(first.answer), rows, place, quoted(first.time or "")]


def _certificate(page: Page) -> Iterator[str]:
    yield from certificate(page.certificate)
    if link := page.links.get("certificate.json"):
        yield f"All of it: [certificate.json]({link})."


def _balance(page: Page) -> Iterator[str]:
    drawn = _drawn(page.facts)
    if not drawn:
        yield "The answers hold no labels: they are free text. `page.balance.field` can name a field of JSON answers."
    for number, labels in enumerate(drawn, 1):
        without = f"; {counted(labels.without)} without" if labels.without else ""
        yield f"{counted(len(labels.labels), 'value')} of {cell(named(labels))} in {counted(labels.rows)}{without}."
        yield f"![Shares of the values](balance_{number}.png)"
        lines = (_label(rank, label, labels.rows) for rank, label in shown_labels(labels))
        yield table(["", "value", "rows", "share", *SIDES], "rlrrrrr", lines)
    if more := len(page.facts.balance) - len(drawn):
        yield f"And {counted(more, 'more field')}."


def _label(rank: int, label: Label, rows: int) -> list[str]:
    numbers = [f"{label.sides.get(side, 0):,}" for side in SIDES]
    return [f"{rank:,}", quoted(label.value, 50), f"{label.rows:,}", f"{label.rows / rows:.1%}", *numbers]


def _size(page: Page) -> Iterator[str]:
    kind, train = page.task.type, page.facts.funnel.sides["train"]
    yield size_warning(kind, train) or f"{counted(train, 'training row')}, as many as recommended for `{kind}`."
    lines = []
    for name, size in SIZES.items():
        least = f"{size.minimum:,}" + (f" to {size.minimum_up_to:,}" if size.minimum_up_to > size.minimum else "")
        lines.append([f"**{name}** (this one)" if name == kind else name, least, f"{size.recommended:,}"])
    yield table(["`task_type`", "minimum", "recommended"], "lrr", lines)


def _examples(page: Page) -> Iterator[str]:
    if not page.examples:
        yield "No row trains."
        return
    yield f"Training rows from old to new. What stands between {OPEN} and {CLOSE} is trained; the rest is only read."
    for example in page.examples:
        place = _place(Place(example.row.source, example.row.line), page)
        yield f"**{place}**, {counted(example.tokens, 'token')}, {example.trained:,} of them trained"
        yield fenced(example.text.rstrip("\n"))


def _place(place: Place, page: Page) -> str:
    return f"{_file(place.source, page)}:{place.line}"


def _file(source: str, page: Page) -> str:
    return quoted(page.names.get(source, source[:12]), None)


SECTIONS = {
    "From raw to train": _funnel,
    "Source files": _files,
    "Lengths": _lengths,
    "Duplicates": _duplicates,
    "Contradictions": _contradictions,
    "Leak certificate": _certificate,
    "Balance": _balance,
    "Size": _size,
    "As the model will see it": _examples,
}
"""In the order of the page."""
