"""Show the files that ship in MLflow, as one logged model, without a second copy of their bytes.

Where MLflow keeps its files in this home, each is a hard link to the store's: 0 bytes, whatever it holds. Elsewhere (a
server that takes uploads, an object store, another disk) files up to `SENT` bytes are sent, and `elsewhere.json` names
the place and the size of the others; their sha256 stands in SHA256SUMS, which is sent.
"""

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlparse

import orjson

from tunemill.home import Home
from tunemill.tracking import DIGEST_LENGTH, flattened

SENT = 32 * 1024 * 1024
"""Largest file, in bytes, that is sent where it cannot be linked: adapters and texts, not the weights of a model."""
ELSEWHERE = "elsewhere.json"

How = Literal["linked", "sent", "elsewhere"]


def log(
    client: Any,
    home: Home,
    run_id: str,
    name: str,
    files: Mapping[str, Path],
    parameters: Mapping[str, Any],
    tags: Mapping[str, str],
) -> str:
    """Log the files as an output of a run and give the logged model's id; one of this name that is READY is taken.

    Args:
        files: name under the model's page → where it lies.
    """
    from mlflow.entities import LoggedModelOutput

    experiment = client.get_run(run_id).info.experiment_id
    same = client.search_logged_models([experiment], f"name = '{name}'")
    if ready := next((model for model in same if model.status == "READY"), None):
        return str(ready.model_id)
    made = client.create_logged_model(experiment, name, run_id, dict(tags), flattened(parameters), "export")
    attach(client, home, made.model_id, files)
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, 0)])
    client.finalize_logged_model(made.model_id, "READY")
    return str(made.model_id)


def attach(client: Any, home: Home, model_id: str, files: Mapping[str, Path]) -> dict[str, How]:
    """Put files under a logged model, in place of what has their names; say of each how."""
    folder = _folder(home, client.get_logged_model(model_id).artifact_location)
    how = {name: _put(client, model_id, folder, name, path) for name, path in files.items()}
    missing = [name for name, way in how.items() if way == "elsewhere"]
    if missing:
        places = {n: _place(files[n]) for n in missing}
        with tempfile.TemporaryDirectory(dir=home.root) as scratch:
            path = Path(scratch) / ELSEWHERE
            path.write_bytes(orjson.dumps(places, option=orjson.OPT_INDENT_2))
            client.log_model_artifact(model_id, str(path))
    return how


def scores(client: Any, run_id: str, model_id: str, values: Mapping[str, float], dataset: str, digest: str) -> None:
    """Log scores on a run and its model, each with the dataset it was measured on; those that it has are left out."""
    from mlflow.entities import Metric

    known = {metric.key for metric in client.get_logged_model(model_id).metrics or ()}
    now, short = int(time.time() * 1000), digest[:DIGEST_LENGTH]
    points = [Metric(k, v, now, 0, model_id, dataset, short, run_id) for k, v in values.items() if k not in known]
    if points:
        client.log_batch(run_id, metrics=points)


def _folder(home: Home, location: str) -> Path | None:
    """Give the folder of a model's files where it lies in this home, in which a link is as good as an upload."""
    url = urlparse(location)
    path = Path(unquote(url.path))
    inside = url.scheme in ("", "file") and path.is_relative_to(home.mlflow_artifacts)
    return path if inside else None


def _put(client: Any, model_id: str, folder: Path | None, name: str, path: Path) -> How:
    if folder is not None and _link(path, folder / name):
        return "linked"
    if path.stat().st_size > SENT:
        return "elsewhere"
    client.log_model_artifact(model_id, str(path), os.path.dirname(name) or None)
    return "sent"


def _link(path: Path, target: Path) -> bool:
    """Give a file a second name; False where the disk is another one, or knows no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except FileExistsError:
        if not target.samefile(path):
            beside = target.with_name(f".{target.name}.{os.getpid()}.new")
            os.link(path, beside)
            os.replace(beside, target)
    except OSError:
        return False
    return True


def _place(path: Path) -> dict[str, Any]:
    return {"uri": path.as_uri(), "size": path.stat().st_size}
