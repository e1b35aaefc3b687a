"""Write users' text into Markdown so that it stays text: it marks nothing up, loads nothing and breaks no table."""

import re
from collections.abc import Iterable, Sequence

LONGEST = 1500
"""Characters of a text that are shown in a block."""
CELL = 160
"""Characters of a text that are shown in a table."""
_MARKUP = re.compile(r"([\\`*_\[\]|~$])")


def table(head: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table; `align` has a letter for each column, l or r. Cells must be escaped already."""
    rule = "|".join("--:" if letter == "r" else "---" for letter in align)
    return "\n".join(["| " + " | ".join(head) + " |", f"|{rule}|", *("| " + " | ".join(row) + " |" for row in rows)])


def cell(text: str) -> str:
    """Keep one of our own texts inside its table cell: no line break, no bar, no HTML, at most 160 characters."""
    return _short(text).replace("|", "\\|").replace("<", "&lt;")


def quoted(text: str, most: int | None = CELL) -> str:
    """Show a user's text on one line as it is, cut where it is too long: no markup, no HTML, no image to load."""
    plain = _short(text, most).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", plain)


def fenced(text: str) -> str:
    """Show text as it is in a block: the fence is longer than any run of backticks in it."""
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}\n... {len(text) - LONGEST:,} characters more"
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`+", shown))])
    return f"{fence}text\n{shown}\n{fence}"


def counted(rows: int, name: str = "row") -> str:
    """Write a number with its noun in the right form."""
    return f"{rows:,} {name}" if rows == 1 else f"{rows:,} {name}s"


def _short(text: str, most: int | None = CELL) -> str:
    line = " ".join(text.split())
    return line if most is None or len(line) <= most else line[: most - 1] + "…"
