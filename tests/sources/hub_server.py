"""Answer as the Hugging Face hub does for one dataset, from a folder; port 0 of this machine, every request kept."""

import contextlib
import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

import orjson


class Hub(ThreadingHTTPServer):
    """Hold the files of `owner/name` at each commit, and the commit of each branch and tag."""

    def __init__(self, repository: str, commits: dict[str, Path], names: dict[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repository, self.commits, self.names = repository, commits, names
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        api, file = f"/api/datasets/{self.server.repository}/", f"/datasets/{self.server.repository}/resolve/"
        if not path.startswith((api, file)):
            return self.fail("RepoNotFound")
        kind, _, rest = path.removeprefix(api).partition("/") if path.startswith(api) else ("resolve", "", "")
        revision, _, inside = (rest or path.removeprefix(file)).partition("/")
        commit = self.server.names.get(revision, revision)
        if commit not in self.server.commits:
            return self.fail("RevisionNotFound")
        folder = self.server.commits[commit]
        if kind == "revision":
            return self.json({"id": self.server.repository, "sha": commit, "siblings": [], "tags": []})
        if kind == "tree":
            paths = (folder / inside).glob("**/*" if "true" in self.path else "*")
            return self.json([entry(each, folder) for each in sorted(paths)])
        if kind == "paths-info":
            form = orjson.loads(body) if body.startswith(b"{") else parse_qs(body.decode())
            return self.json([entry(folder / each, folder) for each in form["paths"] if (folder / each).exists()])
        if not (folder / inside).is_file():
            return self.fail("EntryNotFound")
        self.send((folder / inside).read_bytes(), {"X-Repo-Commit": commit, "ETag": f'"{oid(folder / inside)}"'})

    def json(self, found: object) -> None:
        self.send(orjson.dumps(found), {"Content-Type": "application/json"})

    def send(self, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def fail(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def entry(path: Path, folder: Path) -> dict[str, object]:
    name = str(path.relative_to(folder))
    if path.is_dir():
        return {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
    return {"type": "file", "oid": oid(path), "size": path.stat().st_size, "path": name}


def oid(path: Path) -> str:
    """Give the name that git gives a file."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def serving(repository: str, commits: dict[str, Path], names: dict[str, str]) -> Iterator[Hub]:
    """Serve until the block ends."""
    hub = Hub(repository, commits, names)
    Thread(target=hub.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
