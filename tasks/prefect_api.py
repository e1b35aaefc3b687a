"""Ask a Prefect server over its HTTP API without importing Prefect, which takes 2 s."""

import time
import urllib.error
import urllib.request
from typing import Any

import orjson

from tunemill.errors import TunemillError

SECONDS = 30
"""How long an answer may take."""
PAUSES = (0.25, 0.5, 1, 2, 4, None)
"""Seconds before a server that is busy is asked again; None: no more."""


class NoAnswer(TunemillError):
    """Report a Prefect server that does not answer, or answers with an error that is not expected."""


def ask(api: str, path: str, body: Any = None, method: str = "", seconds: float = SECONDS) -> Any:
    """Send a request, by default POST where there is a body and GET where there is none; give the decoded answer.

    A server on SQLite answers 503 where its database is locked: nothing was done, and it is asked again.

    Raises:
        NoAnswer: nothing listens, it takes too long, or it answers with a status that is an error.
    """
    data = None if body is None else orjson.dumps(body)
    url = f"{api}/{path.lstrip('/')}"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method or ("GET" if data is None else "POST"))
    for pause in PAUSES:
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                text = answer.read()
            return orjson.loads(text) if text else None
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")[:500]
            if error.code != 503 or pause is None:
                raise NoAnswer(f"Prefect at {url} answers {error.code}: {detail}") from error
            time.sleep(pause)
        except OSError as error:
            raise NoAnswer(f"Prefect at {url} does not answer ({error}); `tunemill status` says what runs") from error
    raise AssertionError("the last pause is None")


def found(api: str, path: str) -> Any:
    """Get one object; None where the server does not know it."""
    try:
        return ask(api, path)
    except NoAnswer as error:
        if isinstance(error.__cause__, urllib.error.HTTPError) and error.__cause__.code == 404:
            return None
        raise
