"""Tell a preview to a person: in colour on a terminal, with plain marks in a file or a pipe."""

from collections.abc import Iterator

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tasks.preview import Preview, Reason, ShownRow
from tasks.preview_file import STRANGE, FileFacts, Known
from tasks.suggest_map import line
from tunemill.sources.reasons import listing

MARKS = ("⟦", "⟧")
"""What stands around trained tokens where there is no colour."""
TRAINED = "bold green"
FILES = 10
"""Files that are told one by one."""
HEAD, TAIL = 900, 300
"""Characters of one piece of a conversation that are shown from its ends."""


def tell(found: Preview, console: Console) -> None:
    """Print a preview; what stands in a log moves no cursor and sets no colour."""
    marked = not console.is_terminal or console.color_system is None
    for facts in found.files[:FILES]:
        _line(console, "", f"{facts.file}  {_form(facts)}", "bold")
        for head, text in _facts(facts):
            _line(console, f"  {head:<8}", text)
    if more := found.files_in_all - len(found.files[:FILES]):
        _line(console, "", f"and {more:,} more files; {len(found.files):,} of all were looked into")
    _line(console, "\n", _size(found))
    if found.shown:
        _line(console, "\n", _legend(found, marked))
    for number, row in enumerate(found.shown, 1):
        _row(console, row, f"row {number} of {len(found.shown)}", marked)
    console.print()
    for head, text in _rejections(found):
        _line(console, head, text)
    for stop in found.stops:
        _line(console, "A run would stop: ", stop, "red")
    for note in [*_maps(found), *found.notes]:
        _line(console, "", note, "yellow")


def _form(facts: FileFacts) -> str:
    parts = [facts.format or "unknown format", _bytes(facts.bytes), facts.packed, facts.encoding]
    parts += ["CRLF line ends"] * (facts.line_ends == "CRLF")
    return ", ".join(part for part in parts if part)


def _facts(facts: FileFacts) -> Iterator[tuple[str, str]]:
    if facts.encoding == "UTF-16":
        yield "mend", "write it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW"
    if facts.shapes:
        yield "shapes", ", ".join(f"{shape} ({count:,})" for shape, count in facts.shapes.items())
    if facts.keys:
        most = max(facts.keys.values())
        names = [name if count == most else f"{name} ({count:,})" for name, count in list(facts.keys.items())[:30]]
        yield "keys", ", ".join(names) + (f" and {len(facts.keys) - 30} more" if len(facts.keys) > 30 else "")
    if facts.known:
        yield "ids", ", ".join(_known(field, known, facts.read) for field, known in facts.known.items())


def _known(field: str, known: Known, read: int) -> str:
    some = "" if known.records == read else f" in {known.records:,} of {read:,}"
    key = "" if known.key == field else f" from `{known.key}`"
    return f"{field}{key}{some} ({known.example})"


def _size(found: Preview) -> str:
    size = found.size
    records, rows, kept = (_count(count, size.exact) for count in (size.records, size.rows, size.kept))
    meet = f", {kept} meet the rules" if found.allowed else ""
    trained = f", {_count(size.trained_tokens)} of them trained" if found.tokenizer else " by rule of thumb"
    first = "" if size.exact else f" (from the first {found.read:,} records)"
    return f"{records} records, {rows} can be read{meet}: {_count(size.tokens)} tokens{trained}{first}"


def _count(count: int, exact: bool = False) -> str:
    """Write a number, one that is not exact with three digits that count."""
    return f"{count:,}" if exact or not count else f"about {round(count, 3 - len(str(count))):,}"


def _legend(found: Preview, marked: bool) -> str:
    if not found.tokenizer:
        return "The turns of the first rows:"
    how = f"in {''.join(MARKS)}" if marked else "in colour"
    return f"As {found.model} will see them; what it is trained to write stands {how}:"


def _row(console: Console, row: ShownRow, head: str, marked: bool) -> None:
    tokens = f"  {row.tokens:,} tokens, {row.trained_tokens:,} trained" if row.parts else ""
    _line(console, "\n", f"{head}  {row.file}:{row.line}{tokens}", "bold")
    if row.refused:
        _line(console, "  refused  ", row.refused, "red")
    text = Text()
    for part in row.parts:
        opening, closing = MARKS if marked and part.trained else ("", "")
        text.append(f"{opening}{_cut(part.text)}{closing}", style=TRAINED if part.trained and not marked else "")
    if not row.parts:
        text.append("\n".join(f"{message.role}: {_cut(message.said)}" for message in row.messages))
    text.rstrip()
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, 4)))
    else:
        console.print("\n".join(f"    {each}" for each in text.plain.split("\n")), markup=False, soft_wrap=True)


def _rejections(found: Preview) -> Iterator[tuple[str, str]]:
    left = found.read
    for stage in ("ingest", "validate"):
        reasons = [reason for reason in found.rejected if reason.stage == stage]
        count = sum(reason.records for reason in reasons)
        if reasons:
            limit = found.allowed.get(stage)
            allowed = "" if limit is None else f"; {stage}.max_rejected allows {limit:.0%}"
            if limit is not None and count > limit * left:
                allowed += ", so a run would stop"
            yield f"{stage} would reject {count:,} of {left:,} records ({count / left:.1%}{allowed})", ""
            for reason in reasons:
                yield f"  {reason.records:>6,}  ", _told(reason)
        left -= count
    if not found.rejected:
        reading = "" if found.allowed else " in reading"
        yield f"None of the {found.read:,} records would be rejected{reading}.", ""
    if not found.allowed:
        yield "Without --config the rules of validate were not asked, and the model is the quickstart's.", ""


def _told(reason: Reason) -> str:
    # The detail of a rule names the rule first, which is the reason already.
    detail = reason.detail.removeprefix(reason.reason).strip()
    return f"{reason.reason}  e.g. {reason.file}:{reason.line}  {detail}".rstrip()


def _maps(found: Preview) -> Iterator[str]:
    """Give the lines to write for columns that are not known, once for files that need the same."""
    maps: dict[str, list[FileFacts]] = {}
    for facts in found.files:
        named = "prompt" in facts.suggested or "answer" in facts.suggested
        if named or (STRANGE in facts.shapes and facts.format == "csv"):
            maps.setdefault(line(facts.suggested), []).append(facts)
    for text, files in maps.items():
        names = files[0].file if len(files) == 1 else f"{files[0].file} and {len(files) - 1:,} more"
        why = "as the rows above were read" if files[0].assumed else "no row can be read without it"
        if "COLUMN" in text:
            why = f"put the name of a column for COLUMN, of {listing(files[0].keys)}"
        yield f"Write into `ingest` of the configuration, for {names} ({why}):\n  {text}"
    if len(maps) > 1:
        yield "One configuration has one map: give the files the same columns, or each a configuration of its own."


def _line(console: Console, head: str, text: str, style: str = "") -> None:
    """Print a line; a terminal that is too narrow breaks `text` between words and below itself."""
    if head.startswith("\n"):
        console.print()
    head = head.removeprefix("\n")
    if not console.is_terminal or not head or len(head) > console.width // 2:
        console.print(Text(f"{head}{visible(text)}".rstrip(" "), style), soft_wrap=not console.is_terminal)
        return
    grid = Table.grid()
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(head), Text(visible(text)), style=style)
    console.print(grid)


def _cut(text: str) -> str:
    left = len(text) - HEAD - TAIL
    return visible(f"{text[:HEAD]} … {left:,} characters left out … {text[-TAIL:]}" if left > 100 else text)


def visible(text: str) -> str:
    """Write control characters, by which a log could steer the terminal, as pictures."""
    return text.translate(_PICTURES)


_PICTURES = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: "␡"}
_PICTURES |= dict.fromkeys(range(0x80, 0xA0), "�")


def _bytes(size: int) -> str:
    amount, units = float(size), iter(("bytes", "kB", "MB", "GB"))
    unit = next(units)
    while amount >= 1000 and (larger := next(units, "")):
        amount, unit = amount / 1000, larger
    return f"{amount:,.0f} {unit}" if unit == "bytes" else f"{amount:,.1f} {unit}"
