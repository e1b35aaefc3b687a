"""Read a file as a program would, and print how much memory that took over the start, and what came of it."""

import sys
from collections import Counter
from pathlib import Path

import zstandard

from tunemill.rows import Row
from tunemill.sources import read
from tunemill.sources.settings import IngestSettings


def peak() -> int:
    """Give the most memory held so far, in MB; `getrusage` would begin with that of the program that started this."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def main(path: Path) -> None:
    settings = IngestSettings(files=str(path))
    zstandard.ZstdDecompressor()
    before = peak()
    found = Counter("row" if isinstance(one, Row) else one.reason for one in read(path, "ab" * 32, settings))
    print(peak() - before, *(f"{reason}={count}" for reason, count in sorted(found.items())), sep="|")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
