"""Trace: from a file that ships to the log lines it was made of, and from a log line to every model that saw it.

Only manifests, columns of row tables and run records are read; nothing is made and no model is loaded.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks import trace_artifact, trace_row
from tasks.trace_names import Names
from tunemill.errors import ConfigError
from tunemill.exporting.lineage import FILE
from tunemill.exporting.lineage import read as read_facts
from tunemill.files import hash_file
from tunemill.home import PROJECT, Home
from tunemill.store import Manifest, Store


def trace(what: str) -> dict[str, Any]:
    """Follow a path, an artifact's key, a row's id, or a source line written `file:line`; JSON-ready.

    Keys and ids may be cut to their first 6 digits or more. A source file may be named in full, by the end of its path
    as any run knew it, or by the path of a copy. `stage` says which of three shapes the answer has:
    `trace_artifact.of_artifact`, `trace_artifact.of_source` (stage "source") or `trace_row.of_rows` (stage "row").

    Raises:
        ConfigError: nothing in this home is known by that name, or more than one thing is.
        ModelError: it is a GGUF or safetensors file that is damaged.
    """
    store, names = Store(Home.find().store), Names.read()
    if path := _path(what):
        return _of_path(store, names, what, path)
    if (line := re.fullmatch(r"(.+):(\d+)", what)) and (digests := _sources(names, line[1])):
        return trace_row.at_line(store, names, what, digests, int(line[2]))
    if digests := names.called(what):
        return trace_artifact.of_source(store, names, what, digests)
    if re.fullmatch(r"[0-9a-f]{6,32}", what.lower()):
        return _of_digits(store, names, what, what.lower())
    raise ConfigError(
        f"trace: {what!r} is no file, no key, no row id and no FILE:LINE known in {store.root.parent}\n"
        "  Keys and ids need 6 digits or more. `tunemill plan CONFIG` lists keys, `tunemill trace KEY --json` rows;\n"
        "  TUNEMILL_HOME names the state folder that is looked at."
    )


def _path(what: str) -> Path | None:
    """Find what a path names, from here or from the project."""
    return next((Path(p).resolve() for p in (what, PROJECT / what) if what and os.path.exists(p)), None)


def _of_path(store: Store, names: Names, what: str, path: Path) -> dict[str, Any]:
    if made := _by_place(store, path):
        return trace_artifact.of_artifact(store, names, what, made, "place")
    if made := _by_lineage(store, path):
        sizes = {file.size for file in made.files.values()}
        altered = path.is_file() and path.stat().st_size not in sizes
        return trace_artifact.of_artifact(store, names, what, made, "lineage", altered)
    digest = hash_file(path) if path.is_file() else ""
    if digests := [digest] if digest in names else names.called(str(path)):
        return trace_artifact.of_source(store, names, what, digests)
    if digest and (made := next(_with_file(store, digest), None)):
        return trace_artifact.of_artifact(store, names, what, made, "sha256")
    raise ConfigError(
        f"trace: {path} carries no lineage of Tunemill, and no file with its bytes is known in {store.root.parent}\n"
        "  Set TUNEMILL_HOME to the state folder that made it."
    )


def _by_place(store: Store, path: Path) -> Manifest | None:
    """Take an artifact's folder, or anything in it, for that artifact."""
    parts = path.relative_to(store.root).parts if path.is_relative_to(store.root) else ()
    return store.manifest(*parts[:2]) if len(parts) >= 2 and not parts[0].startswith(".") else None


def _by_lineage(store: Store, path: Path) -> Manifest | None:
    """Find the export that a file, or the file beside it, says that it belongs to.

    Raises:
        ConfigError: that export is not in this store.
    """
    facts = {
        name.removeprefix("tunemill."): fact
        for name, fact in read_facts(path / FILE if path.is_dir() else path).items()
    }
    if not (key := facts.get("key.export")):
        return None
    if made := store.manifest("export", key):
        return made
    says = ", ".join(f"{name} {facts[name]}" for name in ("run", "verdict", "dataset", "base") if name in facts)
    raise ConfigError(
        f"trace: {path} names export {key[:12]}, which is not in {store.root}\n"
        f"  It says of itself: {says}.\n  Set TUNEMILL_HOME to the state folder that made it."
    )


def _with_file(store: Store, sha256: str) -> Iterator[Manifest]:
    """Yield the artifacts that hold a file, the last stage first: there a copy was most likely taken from."""
    for stage in reversed(trace_artifact.ORDER):
        for manifest in store.manifests(stage):
            if any(file.sha256 == sha256 for file in manifest.files.values()):
                yield manifest


def _sources(names: Names, file: str) -> list[str]:
    """Find the digests of a source file by a name that it had; where it has none, by the bytes that lie there now."""
    if digests := names.called(file):
        return digests
    path = _path(file)
    digest = hash_file(path) if path and path.is_file() else ""
    return [digest] if digest in names else []


def _of_digits(store: Store, names: Names, what: str, digits: str) -> dict[str, Any]:
    """Follow the one key or row id that begins with these digits.

    Raises:
        ConfigError: none does, or more than one.
    """
    keys, ids = store.find(digits), trace_row.ids(store, digits)
    if len(keys) + len(ids) > 1:
        which = [f"{manifest.stage} {manifest.key}" for manifest in keys] + [f"row {row_id}" for row_id in sorted(ids)]
        more = f"\n  and {len(which) - 5:,} more" if len(which) > 5 else ""
        raise ConfigError(
            f"trace: {len(which):,} keys and row ids begin with {what!r}; give more digits\n  "
            + "\n  ".join(which[:5])
            + more
        )
    if keys:
        return trace_artifact.of_artifact(store, names, what, keys[0], "key")
    if ids:
        return trace_row.of_id(store, names, what, ids.pop())
    raise ConfigError(
        f"trace: no key and no row id in {store.root.parent} begins with {what!r}\n"
        "  `tunemill plan CONFIG` lists keys, `tunemill trace KEY --json` rows; TUNEMILL_HOME names the state folder."
    )
