"""Write the example's data: the log of an invented shop's support desk, with dirt planted in known places.

    python examples/support_desk/generate.py [--out DIR] [--seed N]

desk.py thinks the tickets up; here they are spoilt and written. The same seed writes the same bytes.
"""

import argparse
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from desk import Desk, Ticket, grams, jaccard

HERE = Path(__file__).parent
SYSTEM = "You are the support desk of Fernhill Tools. Answer with JSON: intent and reply."
FILES = ("tickets.csv", "tickets.jsonl", "chats.json")
GOOD = (136, 104, 80)
"""Rows of each file that are fit for training; the first copy of a duplicate is one of them."""
TWO_EXCHANGES = 26
"""Rows of chats.json, among the good ones, in which the customer asks twice."""

DIRT = {
    "exact_copy_same_file": (8, 4, 3),
    "exact_copy_of_tickets_csv": (0, 6, 6),
    "near_copy_case": (3, 2, 2),
    "near_copy_typo": (3, 2, 2),
    "near_copy_punctuation": (3, 2, 2),
    "near_copy_word": (3, 2, 2),
    "empty_answer": (4, 3, 2),
    "short_answer": (3, 2, 1),
    "contradictory_answer": (1, 1, 0),
    "over_long": (0, 1, 0),
    "too_many_columns": (1, 0, 0),
    "broken_json": (0, 1, 0),
    "latin1_bytes": (0, 1, 0),
    "nul_byte": (0, 1, 0),
    "nan_value": (0, 1, 0),
    "unknown_role": (0, 0, 1),
    "no_turns": (0, 0, 1),
}
"""Records that should not reach training, by kind and file."""

QUIRKS = {
    "byte_order_mark": (1, 0, 0),
    "crlf_line_ends": (1, 0, 0),
    "line_break_in_field": (4, 0, 0),
    "trailing_space": (5, 5, 0),
    "blank_line": (0, 2, 0),
}
"""What a reader has to cope with: none of it costs a row."""

SHORT = ("ok", "Done.", "see above", "n/a", "will do", "?")
SWAPS = {"the": "that", "my": "our", "please": "kindly", "can": "could", "for": "about", "is": "was"}
NEW_LOG = 110_000
"""Minute from which tickets.jsonl holds prompt and completion, before it instruction, input and output."""


def reworded(ticket: Ticket, change: Callable[[str], str], answer: str | None = None) -> Ticket:
    """Change the last question, and the answer where one is given, ten minutes later."""
    question, was = ticket.turns[-1]
    last = (change(question), was if answer is None else answer)
    return ticket._replace(turns=(*ticket.turns[:-1], last), minute=ticket.minute + 10)


def misspell(text: str) -> str:
    """Swap the second and third letter of the longest word."""
    word = max(re.findall(r"[A-Za-z]+", text), key=len)
    return text.replace(word, word[0] + word[2] + word[1] + word[3:], 1)


def swap_word(text: str) -> str:
    """Put another common word for the first of `SWAPS` that occurs; a text without any stays as it is."""
    return re.sub(rf"\b({'|'.join(SWAPS)})\b", lambda found: SWAPS[found[0]], text, count=1)


CHANGES: dict[str, Callable[[str], str]] = {
    "near_copy_case": str.upper,
    "near_copy_typo": misspell,
    "near_copy_punctuation": lambda text: re.sub(r"([.,?!;:]) ", r"\1\1   ", text).rstrip(".?!") + " !!",
    "near_copy_word": swap_word,
}


def csv_record(ticket: Ticket, extra: tuple[str, ...] = ()) -> bytes:
    """Encode one row of tickets.csv; `extra` columns have no header."""
    question, answer = ticket.turns[-1]
    intent = json.loads(answer)["intent"] if answer.startswith("{") else ""
    text = io.StringIO(newline="")
    row = [f"T-{ticket.minute:06d}", ticket.time, ticket.user, question, intent, answer, *extra]
    csv.writer(text, lineterminator="\r\n").writerow(row)
    return text.getvalue().encode()


def jsonl_record(ticket: Ticket, end: str = "", **extra: Any) -> bytes:
    """Encode one line of tickets.jsonl, in the older or the newer form of the log."""
    question, answer = ticket.turns[-1]
    if ticket.minute < NEW_LOG:
        record = {"instruction": question, "input": ticket.context, "output": answer}
    else:
        record = {"prompt": f"{question}\n\n{ticket.context}".strip(), "completion": answer}
    record |= {"user": ticket.user, "time": ticket.time, **extra}
    return (json.dumps(record, ensure_ascii=False) + end + "\n").encode()


def chat_record(ticket: Ticket, desk_role: str = "assistant") -> bytes:
    """Encode one conversation of chats.json; a ticket without turns gives an empty list of messages."""
    messages = [{"role": "system", "content": SYSTEM}] if ticket.turns else []
    for question, answer in ticket.turns:
        messages += [{"role": "user", "content": question}, {"role": desk_role, "content": answer}]
    record = {"messages": messages, "conversation": f"chat-{ticket.minute:06d}"}
    return json.dumps(record | {"user": ticket.user, "time": ticket.time}, ensure_ascii=False).encode()


RECORD: dict[str, Callable[[Ticket], bytes]] = dict(zip(FILES, (csv_record, jsonl_record, chat_record), strict=True))
Dated = tuple[int, bytes]


def copies(file: str, bases: list[Ticket], from_csv: list[Ticket]) -> Iterator[Dated]:
    """Make the planted duplicates of a file, each of another good ticket, which is taken off its list."""
    at = FILES.index(file)
    for _ in range(DIRT["exact_copy_same_file"][at]):
        copy = reworded(bases.pop(), str)
        yield copy.minute, RECORD[file](copy)
    for _ in range(DIRT["exact_copy_of_tickets_csv"][at]):
        copy = reworded(from_csv.pop(), str)
        yield copy.minute, RECORD[file](copy)
    for kind, change in CHANGES.items():
        for _ in range(DIRT[kind][at]):
            copy = reworded(next_changed(bases, change), change)
            yield copy.minute, RECORD[file](copy)


def next_changed(bases: list[Ticket], change: Callable[[str], str]) -> Ticket:
    """Take the last ticket whose question the change touches, yet leaves at a similarity of 0.75 or more."""
    for at in range(len(bases) - 1, -1, -1):
        question = bases[at].turns[-1][0]
        if change(question) != question and jaccard(grams(change(question)), grams(question)) >= 0.75:
            return bases.pop(at)
    raise RuntimeError(f"no ticket is left that {change} makes a near-duplicate of")


def poor_answers(desk: Desk, file: str) -> Iterator[Dated]:
    """Make tickets that nobody answered, or with a word only."""
    empty, short = DIRT["empty_answer"][FILES.index(file)], DIRT["short_answer"][FILES.index(file)]
    for answer in [*("", "  ", "", "")[:empty], *desk.rng.sample(SHORT, short)]:
        poor = reworded(desk.ticket(desk.rng.choice(desk.intents)), str, answer)
        yield poor.minute, RECORD[file](poor)


def single_faults(desk: Desk) -> dict[str, list[Dated]]:
    """Make the records that a parser or a rule must refuse, one of each kind."""
    asked, ragged, long, cut, latin, nul, nan, foreign, silent = (desk.ticket("refund_request") for _ in range(9))
    order = {"order": json.loads(asked.turns[-1][1])["reply"].split()[4]}
    denied = reworded(asked, str, desk.answer("cancel_order", order))
    long = reworded(long, lambda text: " ".join([text, *the_whole_story(desk)]))
    latin = reworded(latin, lambda text: f"{text} Jörg from Oldmere")
    nul = reworded(nul, lambda text: text.replace(" ", "\0", 1))
    return {
        "tickets.csv": [
            (asked.minute, csv_record(asked)),
            (ragged.minute, csv_record(ragged, ("agent 7", "call back"))),
        ],
        "tickets.jsonl": [
            (denied.minute, jsonl_record(denied)),
            (long.minute, jsonl_record(long)),
            (cut.minute, jsonl_record(cut)[:150] + b"\n"),
            (latin.minute, jsonl_record(latin).decode().encode("latin-1")),
            (nul.minute, jsonl_record(nul).replace(rb"\u0000", b"\0")),
            (nan.minute, jsonl_record(nan, rating=float("nan"))),
        ],
        "chats.json": [
            (foreign.minute, chat_record(foreign, desk_role="supervisor")),
            (silent.minute, chat_record(silent._replace(turns=()))),
        ],
    }


def the_whole_story(desk: Desk) -> Iterator[str]:
    """Retell 150 questions: about 10,000 characters."""
    for _ in range(150):
        yield desk.question(desk.rng.choice(desk.intents), desk.facts(), "", refer=True)


def with_quirks(file: str, good: list[Ticket]) -> tuple[list[Dated], list[Ticket]]:
    """Encode the good tickets of a file, some with a quirk; also return those without, which may be copied."""
    records: list[Dated] = []
    plain: list[Ticket] = []
    at = FILES.index(file)
    breaks, spaces = QUIRKS["line_break_in_field"][at], QUIRKS["trailing_space"][at]
    for ticket in good:
        question, answer = ticket.turns[-1]
        broken = re.sub(r"([.?!,:]) ", r"\1\n", question, count=1)
        record = RECORD[file](ticket)
        if breaks and broken != question:
            breaks -= 1
            record = csv_record(ticket._replace(turns=((broken, answer),)))
        elif spaces:
            spaces -= 1
            spaced = ticket._replace(turns=((question + "  ", answer),))
            record = csv_record(spaced) if file == "tickets.csv" else jsonl_record(ticket, end=" \t ")
        else:
            plain.append(ticket)
        records.append((ticket.minute, record))
    return records, plain


def good_tickets(desk: Desk, file: str) -> list[Ticket]:
    """Draw the good tickets of one file; some of tickets.jsonl came through the shop's form."""
    two = TWO_EXCHANGES if file == "chats.json" else 0
    return desk.tickets(GOOD[FILES.index(file)], two_exchanges=two, form=file == "tickets.jsonl")


def build(seed: int) -> dict[str, bytes]:
    """Make the bytes of the three files."""
    desk = Desk(seed)
    coded = {file: with_quirks(file, good_tickets(desk, file)) for file in FILES}
    faults, from_csv = single_faults(desk), coded["tickets.csv"][1]
    lines: dict[str, list[bytes]] = {}
    for file in FILES:
        records, bases = coded[file]
        dated = [*records, *copies(file, bases, from_csv), *poor_answers(desk, file), *faults[file]]
        lines[file] = [record for _, record in sorted(dated)]
    for place in sorted(desk.rng.sample(range(len(lines["tickets.jsonl"])), QUIRKS["blank_line"][1]), reverse=True):
        lines["tickets.jsonl"].insert(place, b"\n")
    header = "\ufeffticket_id,created_at,customer_id,question,intent,answer\r\n".encode()
    return {
        "tickets.csv": header + b"".join(lines["tickets.csv"]),
        "tickets.jsonl": b"".join(lines["tickets.jsonl"]),
        "chats.json": b"[\n" + b",\n".join(lines["chats.json"]) + b"\n]\n",
    }


def main() -> None:
    """Write the files beside this script, or into `--out`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE, help="folder for the three files (default: beside this one)")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other tickets (default: 1)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for file, content in build(options.seed).items():
        (options.out / file).write_bytes(content)
        print(f"{options.out / file}: {len(content):,} bytes")


if __name__ == "__main__":
    main()
