"""Write the sha256 of every file of a folder as `sha256sum -c` reads it."""

from pathlib import Path

from tunemill.files import hash_file

FILE = "SHA256SUMS"


def write(folder: Path) -> int:
    """Write SHA256SUMS over all other files of the folder, in order of name; return how many.

    A copy is checked by `cd FOLDER && sha256sum -c SHA256SUMS`.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / FILE)
    lines = [f"{hash_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
    (folder / FILE).write_text("".join(lines), encoding="utf-8")
    return len(lines)
