import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tunemill.files import FileDigests, FileHashes, link, replace

WRITER = """
import sys
from pathlib import Path
from tunemill.files import replace
number = 0
while True:
    number += 1
    replace(Path(sys.argv[1]), (b"%d " % (number % 10)) * 100_000)
"""


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    digests = FileDigests(tmp_path / "memory.json")
    first = digests(file)
    digests.save()
    again = FileDigests(tmp_path / "memory.json")
    again.known[str(file)][3] = "remembered"
    assert again(file) == "remembered"
    file.write_text("two2")
    assert again(file) not in ("remembered", first)


def test_a_damaged_memory_is_forgotten(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "memory.json").write_text('{"half')
    digests = FileDigests(tmp_path / "memory.json")
    assert digests(tmp_path / "a.txt") == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"


def test_a_reader_sees_the_old_bytes_or_the_new_until_the_writer_is_killed_and_after(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    replace(file, b"0 " * 100_000)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(file)])
    seen = set()
    until = time.monotonic() + 10
    while len(seen) < 5 and time.monotonic() < until:
        seen.add(file.read_bytes())
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    seen.add(file.read_bytes())
    assert len(seen) >= 5
    assert {(len(data), len(set(data.split()))) for data in seen} == {(200_000, 1)}


def test_a_second_name_of_a_file_is_not_read_again(tmp_path: Path) -> None:
    path, hashes = tmp_path / "old", FileHashes()
    path.write_bytes(b"rows")
    os.utime(path, (0, 0))
    first = hashes([path])
    link([path], _made(tmp_path / "night"))
    path.write_bytes(b"rots")
    os.utime(path, (0, 0))
    assert hashes([tmp_path / "night" / "old"]) == first == [hashlib.sha256(b"rows").hexdigest()]
    assert FileHashes()([path]) == [hashlib.sha256(b"rots").hexdigest()]


def test_a_file_that_was_written_just_now_is_read_every_time(tmp_path: Path) -> None:
    path, hashes = tmp_path / "new", FileHashes()
    path.write_bytes(b"one")
    hashes([path])
    stat = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert hashes([path]) == [hashlib.sha256(b"two").hexdigest()]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
