"""A small server answers as the hub does, so that the real client fetches a real checkpoint, without internet."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

COMMIT = "12fd25f77366fa6b3b4b768ec3050bf629380bac"
PROGRAM = """
import sys; from pathlib import Path
from tunemill.errors import ModelError
from tunemill.models.checkpoint import write_weights
from tunemill.models.settings import ModelSettings
from tunemill.models.sources import locate
from tunemill.files import hash_file
home = Path(sys.argv[1])
source = locate(ModelSettings(hub="acme/base", revision=sys.argv[2]), home, hash_file)
try:
    write_weights(source, home, home / "out")
except ModelError as error:
    print(error)
else:
    print(sorted(path.name for path in (home / "out").iterdir()))
"""


@pytest.fixture
def hub(model_folder: Path) -> Iterator[str]:
    """Serve `model_folder` as acme/base at one commit."""

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def log_message(self, *_: object) -> None: ...

        def answer(self, body: bool) -> None:
            path = self.path.partition("?")[0]
            name = path.removeprefix(f"/acme/base/resolve/{COMMIT}/")
            tree = f"/api/models/acme/base/tree/{COMMIT}"
            if path == f"/api/models/acme/base/revision/{COMMIT}":
                siblings = [{"rfilename": file.name} for file in sorted(model_folder.iterdir())]
                self.reply(200, json.dumps({"id": "acme/base", "sha": COMMIT, "siblings": siblings}).encode(), body)
            elif path == tree:
                files = sorted(model_folder.iterdir())
                listed = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": etag(f)} for f in files]
                self.reply(200, json.dumps(listed).encode(), body)
            elif name != path and (file := model_folder / name).is_file():
                self.reply(200, file.read_bytes(), body, {"ETag": f'"{etag(file)}"', "X-Repo-Commit": COMMIT})
            else:
                self.reply(404, b"{}", body, {"X-Error-Code": "RevisionNotFound"})

        def reply(self, status: int, data: bytes, body: bool, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


def fetch(endpoint: str, home: Path, commit: str = COMMIT) -> str:
    home.mkdir(exist_ok=True)
    surroundings = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf"), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(home), commit],
        env=surroundings, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


@pytest.mark.slow
def test_weights_come_from_the_hub_at_their_commit(hub: str, model_folder: Path, tmp_path: Path) -> None:
    assert fetch(hub, tmp_path / "home") == "['config.json', 'model.safetensors']\n"
    written = tmp_path / "home" / "out" / "model.safetensors"
    assert written.read_bytes() == (model_folder / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_what_a_repository_holds_beside_its_safetensors_is_not_fetched(
    hub: str, model_folder: Path, tmp_path: Path
) -> None:
    (model_folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (model_folder / "modeling_own.py").write_text("print('hello')")
    fetch(hub, tmp_path / "home")
    kept = {path.name for path in (tmp_path / "home" / "downloads" / "hub").rglob("*")}
    assert "model.safetensors" in kept and not kept & {"pytorch_model.bin", "modeling_own.py"}


@pytest.mark.slow
def test_a_commit_that_is_not_there_is_an_error_that_says_what_to_check(hub: str, tmp_path: Path) -> None:
    said = fetch(hub, tmp_path / "home", COMMIT[::-1])
    assert f"acme/base@{COMMIT[::-1]} could not be fetched: RevisionNotFoundError" in said
    assert "Check name and commit" in said


@pytest.mark.slow
def test_a_hub_out_of_reach_is_an_error_that_names_the_other_way(tmp_path: Path) -> None:
    assert "name its folder with `model.folder`" in fetch("http://127.0.0.1:9", tmp_path / "home")
