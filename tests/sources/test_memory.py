"""Whatever a file holds, reading it takes at most 512 MB over the start of the program."""

import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

MB = 1_000_000
FIT = 8 * MB
"""Bytes of a record that is just short enough to be parsed."""
GOOD = b'{"prompt":"Hi","completion":"Hello"}\n'
ASKED = b'{"prompt":"Hi","completion":'


def gzipped(pieces: Iterator[bytes]) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(piece) for piece in pieces) + packer.flush()


def zstd(pieces: Iterator[bytes]) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    return b"".join(packer.compress(piece) for piece in pieces) + packer.flush()


HEAD = b"prompt,completion\n"
CASES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "a line of 100 MB": (
        "a.jsonl",
        lambda: GOOD + ASKED + b'"' + b"x" * (100 * MB) + b'"}\n' + GOOD,
        "row=2|too long=1",
    ),
    "an element of 100 MB": (
        "a.json",
        lambda: b'[{"prompt":"' + b"x" * (100 * MB) + b'"},' + GOOD + b"]",
        "row=1|too long=1",
    ),
    "300,000 empty objects": ("a.json", lambda: b"[" + b"{}," * 300_000 + GOOD + b"]", "no known shape=300000|row=1"),
    "a field of 100 MB": ("a.csv", lambda: HEAD + b"a,b\n" + b"x" * (100 * MB) + b",b\nc,d\n", "row=1|too long=1"),
    "a quote never closed": ("a.csv", lambda: HEAD + b'a,b\n"' + b"c,d\n" * (25 * MB), "row=1|too long=1"),
    "4 million lines in quotes": ("a.csv", lambda: HEAD + b'a,"' + b"x\n" * (FIT // 2 - 100) + b'"\nc,d\n', "row=2"),
    "1 million columns": ("a.csv", lambda: b",".join(b"%d" % n for n in range(MB)) + b"\na,b\n", "too few columns=1"),
    "4 million fields": ("a.csv", lambda: HEAD + b"a," * (FIT // 2 - 100) + b"\nc,d\n", "row=1|too many columns=1"),
    "1 GB of blanks in gzip": ("a.jsonl.gz", lambda: gzipped(b" " * MB for _ in range(1_000)), "gzip bomb=1"),
    "30 MB of one row in gzip": ("a.jsonl.gz", lambda: gzipped(GOOD * 27_027 for _ in range(30)), "row=810810"),
    "8 GB of blanks in zstandard": ("a.jsonl.zst", lambda: zstd(b" " * MB for _ in range(8_000)), "zstandard bomb=1"),
    "8 million open brackets": ("a.jsonl", lambda: GOOD + b"[" * FIT + b"\n" + GOOD, "nested too deep=1|row=2"),
    "objects 1 million deep": (
        "a.jsonl",
        lambda: b'{"a":' * MB + b"1" + b"}" * MB + b"\n" + GOOD,
        "nested too deep=1|row=1",
    ),
    "an array 100 million deep": ("a.json", lambda: b"[" * (100 * MB), "broken JSON array=1"),
    "1 million equal keys": (
        "a.jsonl",
        lambda: b"{" + b'"a":1,' * MB + b'"a":1}\n' + GOOD,
        "duplicate key=1|row=1",
    ),
    "2 million empty lists": (
        "a.jsonl",
        lambda: ASKED + b"[" + b"[]," * (FIT // 3 - 100) + b"[]]}\n" + GOOD,
        "row=1|wrong type=1",
    ),
    "2 million empty objects and NaN": (
        "a.jsonl",
        lambda: b"[" + b"{}," * (FIT // 3 - 100) + b"NaN]\n" + GOOD,
        "number out of range=1|row=1",
    ),
    "1 million lone surrogates": (
        "a.jsonl",
        lambda: ASKED + b'"' + rb"\ud800" * MB + b'"}\n' + GOOD,
        "lone surrogate=1|row=1",
    ),
    "2 million line separators": (
        "a.jsonl",
        lambda: ASKED + b'"' + "\u2028".encode() * 2 * MB + b'"}\n' + GOOD,
        "empty answer=1|row=1",
    ),
    "8 million NUL bytes": ("a.jsonl", lambda: GOOD + b"\0" * FIT + b"\n" + GOOD, "NUL character=1|row=2"),
    "20 million line feeds": ("a.jsonl", lambda: b"\n" * (20 * MB) + GOOD, "row=1"),
}
"""Name of the file, its bytes, and what comes of it."""


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_file_is_read_in_512_mb(tmp_path: Path, name: str) -> None:
    file, data, expected = CASES[name]
    path = tmp_path / file
    path.write_bytes(data())
    program = Path(__file__).with_name("peak.py")
    done = subprocess.run([sys.executable, str(program), str(path)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    taken, _, found = done.stdout.strip().partition("|")
    assert (found, int(taken) <= 512) == (expected, True), f"{taken} MB"
