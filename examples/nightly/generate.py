"""Write the logs of the first nights: what the support desk of an invented shop answered, one file a day.

    python examples/nightly/generate.py [--nights N] [--out DIR] [--seed N]

Text, people and times are made up by the desk of examples/support_desk. The same seed writes the same bytes, and more
nights leave the earlier files as they are.
"""

import argparse
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "support_desk"))

from desk import START, Desk, Ticket  # noqa: E402

ROWS = (120, 60, 12)
"""Fresh tickets of each day; the third is a holiday."""
REPEATED = 6
"""Tickets of the day before that are sent again: no night may count them twice or test what another trained."""
DAY = 24 * 60


def record(ticket: Ticket, day: int) -> bytes:
    """Encode one line of a log, at its own minute of the day."""
    question, answer = ticket.turns[-1]
    dated = ticket._replace(minute=day * DAY + ticket.minute % DAY)
    line = {"prompt": question, "completion": answer, "user": ticket.user, "time": dated.time}
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def build(nights: int, seed: int) -> dict[str, bytes]:
    """Make the bytes of the first logs, by file name."""
    desk, before, logs = Desk(seed), list[Ticket](), dict[str, bytes]()
    for day, rows in enumerate(ROWS[:nights]):
        fresh = desk.tickets(rows)
        lines = sorted(fresh + before[:REPEATED], key=lambda ticket: ticket.minute % DAY)
        broken = [b'{"prompt": "cut off\n'] if day == 0 else []
        logs[f"{START + timedelta(days=day):%Y-%m-%d}.jsonl"] = b"".join(
            [*(record(ticket, day) for ticket in lines), *broken]
        )
        before = fresh
    return logs


def main() -> None:
    """Write the logs, each as if it had been closed at the end of its day."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nights", type=int, default=len(ROWS), choices=range(1, len(ROWS) + 1))
    parser.add_argument("--out", type=Path, default=HERE / "logs", help="folder for the logs (default: logs/ here)")
    parser.add_argument("--seed", type=int, default=1, help="another seed gives other tickets (default: 1)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for day, (name, content) in enumerate(build(options.nights, options.seed).items(), start=1):
        path, closed = options.out / name, (START + timedelta(days=day)).timestamp()
        path.write_bytes(content)
        os.utime(path, (closed, closed))
        print(f"{path}: {len(content.splitlines())} lines")


if __name__ == "__main__":
    main()
