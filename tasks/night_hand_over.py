"""Night hand over: tell those who serve the model that there is a new champion.

What fails here is a warning and is tried again by the next night: the promotion stands.
"""

import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import orjson

from tasks.night import write
from tasks.run import Run
from tunemill.home import PROJECT, Home
from tunemill.nights import HandOverSettings, Night
from tunemill.registry import CHAMPION, Registry
from tunemill.store import Store

PAUSES = (1, 4)
"""Seconds before the second and the third try of a webhook."""
PATIENCE = 10
"""Seconds that a webhook may take to answer."""


class Refused(Exception):
    """Say why a webhook did not take what it was told; never with its URL, which may hold a secret."""


def hand_over(night: Night, settings: HandOverSettings) -> Night:
    """Go the ways of handing over that this night's champion has not gone yet, and write down which were."""
    ways = [way for way in ("symlink", "webhook") if getattr(settings, way) and way not in night.handed_over]
    if not ways or night.approval is None or night.approval.state != "approved" or not _in_use(night):
        return night
    key = night.keys["export"]
    store = Store.at(Home.find().store)
    store.check("export", key)
    for way in ways:
        go = _move_link if way == "symlink" else _post
        try:
            go(night, settings, store.folder("export", key))
        except (OSError, Refused) as error:
            Run.current().warn(f"{night.title} is promoted, but its {way} failed: {error}; the next night tries again")
        else:
            night = write(night.model_copy(update={"handed_over": (*night.handed_over, way)}))
    return night


def _in_use(night: Night) -> bool:
    """Say whether the registry still has this night's version as champion."""
    with Run.current().unless_down("did not say which version is champion, so nothing is handed over"):
        registry = Registry(Home.find())
        version = registry.find(night.name, night.digest)
        return version is not None and registry.holder(night.name, CHAMPION) == version.number
    return False


def _move_link(night: Night, settings: HandOverSettings, folder: Path) -> None:
    """Let the link lead to the folder, in one step: who follows it sees the old folder or the new."""
    link = PROJECT / str(settings.symlink)
    if link.exists() and not link.is_symlink():
        raise Refused(f"{link} is there and is no symbolic link; move it away")
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder)
    temporary.replace(link)


def _post(night: Night, settings: HandOverSettings, folder: Path) -> None:
    """Post the news to the URL that the environment holds, three times at most."""
    name = str(settings.webhook)
    url = os.environ.get(name, "")
    if not url.startswith(("http://", "https://")):
        raise Refused(f"the environment variable {name} holds no http:// or https:// URL")
    body = orjson.dumps(news(night, folder))
    for pause in (*PAUSES, None):
        why = _try(url, body)
        if not why:
            return
        if pause is None:
            raise Refused(f"the URL in {name} {why}, {len(PAUSES) + 1} times")
        time.sleep(pause)


def news(night: Night, folder: Path) -> dict[str, Any]:
    """Say what was promoted; JSON-ready."""
    assert night.approval is not None, "only what was approved is handed over"
    return {
        "event": "promoted",
        "name": night.name,
        "night": str(night.date),
        "digest": night.digest,
        "folder": str(folder),
        "by": night.approval.by,
        "reason": night.approval.reason,
    }


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Take a redirect for a failure: followed, it would become a GET without the news."""

    def redirect_request(self, *args: Any) -> None:
        """Refuse."""


def _try(url: str, body: bytes) -> str:
    """Post once; give why it failed, without the URL."""
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        urllib.request.build_opener(_NoRedirect).open(request, timeout=PATIENCE).close()
    except urllib.error.HTTPError as error:
        return f"answered {error.code}"
    except urllib.error.URLError as error:
        return f"cannot be reached ({type(error.reason).__name__})"
    except Exception as error:  # the message of any other may hold the URL
        return f"cannot be used ({type(error).__name__})"
    return ""
