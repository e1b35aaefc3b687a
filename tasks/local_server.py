"""Local server: lend a run a Prefect server where none is named; it ends with the process that asked for it.

Prefect would start one by itself, but leaves it running when that process is killed.
"""

import contextlib
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

from tunemill.child import end_with_parent
from tunemill.errors import StoreError

SECONDS = 120
"""How long the server may take to start; it takes 3 to 5 where nothing else runs."""


@contextlib.contextmanager
def local_server() -> Iterator[None]:
    """Let Prefect talk to a server of ours inside this block; change nothing where its settings name one.

    The kernel binds the server's end to the calling thread, so call this from the main one.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if PREFECT_API_URL.value():
        yield
        return
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        server = _start(listening)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/api"
    try:
        # The socket listens already: this waits until the server takes it over, and fails at once if it ends before.
        _wait(f"{url}/health", server)
        with temporary_settings({PREFECT_API_URL: url}):
            yield
    finally:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        server.wait()


def _wait(url: str, server: "subprocess.Popen[bytes]") -> None:
    try:
        urllib.request.urlopen(url, timeout=SECONDS).close()
    except OSError as error:
        status = server.poll()
        how = f"ended with status {status}" if status is not None else f"said nothing for {SECONDS} s"
        raise StoreError(
            f"the Prefect server of this run {how} ({error}); `tunemill doctor` says what is missing, and "
            "PREFECT_API_URL names another server"
        ) from error


def _start(listening: socket.socket) -> "subprocess.Popen[bytes]":
    """Start the server on a socket that listens, in a session of its own: Ctrl-C must reach the flow alone."""
    place = listening.fileno()
    words = ["uvicorn", "--factory", "prefect.server.api.server:create_app", "--fd", str(place), "--log-level", "error"]
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PREFECT_SERVER_UI_ENABLED": "false"},
        pass_fds=(place,),
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
