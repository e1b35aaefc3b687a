"""Know source files by their bytes and by every name that they ever had here."""

from pathlib import Path

from tunemill import rows
from tunemill.home import PROJECT, Home


class Names:
    """The side table of ingest, by digest."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self.table = table

    @classmethod
    def read(cls) -> "Names":
        """Read this home's table; empty where nothing was ever ingested."""
        path, table = Home.find().root / "sources.jsonl", dict[str, list[str]]()
        for line in rows.read_lines(path) if path.exists() else ():
            table.setdefault(line["sha256"], []).append(line["path"])
        return cls(table)

    def __contains__(self, digest: object) -> bool:
        return digest in self.table

    def of(self, digest: str) -> str:
        """Give the newest name, relative to the project where it lies inside; the digest where none is known."""
        return self.every(digest)[0] if digest in self.table else digest

    def every(self, digest: str) -> list[str]:
        """List the names that a file had, newest first."""
        return list(dict.fromkeys(_shown(name) for name in reversed(self.table.get(digest, []))))

    def called(self, name: str) -> list[str]:
        """List the digests of files that were called so: in full, or by the end of their path."""
        ends = "/" + name.removeprefix("./").removeprefix("/")
        return [digest for digest, names in self.table.items() if any(each.endswith(ends) for each in names)]


def _shown(path: str) -> str:
    return str(Path(path).relative_to(PROJECT)) if Path(path).is_relative_to(PROJECT) else path
