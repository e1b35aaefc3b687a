"""Take datasets from the Hugging Face hub: one JSONL file a commit, config and split, which later runs read offline.

What lies under the name of a commit cannot change, so a file that is held is never asked for again.
"""

import os
import re
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import orjson
from pydantic import Field, StringConstraints

from tunemill.errors import DataError
from tunemill.files import flush
from tunemill.home import Home
from tunemill.quiet import quiet
from tunemill.section import Section

COMMIT = re.compile(r"[0-9a-f]{40}")
Name = Annotated[str, StringConstraints(min_length=1)]


class HubDataset(Section):
    """One split of a dataset on the Hugging Face hub, each of its rows a record."""

    hub: Annotated[str, StringConstraints(pattern=r"^[\w-][\w.-]*/[\w-][\w.-]*$")]
    """Repository of the dataset, as owner/name."""
    revision: Annotated[Name, Field(json_schema_extra={"examples": ["main"]})]
    """Commit of 40 hex digits, which is fetched once; or a tag or branch, which every run asks for its commit."""
    split: Annotated[str, StringConstraints(pattern=r"^\w+(\.\w+)*(\[-?\d*%?:-?\d*%?\])?$")] = "train"
    """Name of the split, or a part of it: `train[:5000]`, `train[10%:20%]`."""
    config: Name | None = None
    """Name of the configuration (the subset, on the dataset's page), where there is more than one."""


def snapshots(datasets: Iterable[HubDataset], home: Home) -> list[Path]:
    """Give the file of each dataset, fetched where it is not held.

    Line n is row n of the split. A key that is null is left out, as in the JSON that most datasets come from: Arrow
    gives every row every key. Columns that hold bytes (images, sound) are left out too. Times are seconds since 1970,
    so that a text which the library took for a time, and so changed, is refused as a text.

    Raises:
        DataError: a dataset is not held and the hub does not give it.
    """
    return [_snapshot(dataset, home) for dataset in datasets]


def _snapshot(dataset: HubDataset, home: Home) -> Path:
    place = home.root / "datasets" / dataset.hub.replace("/", "--")
    name = f"{quote(dataset.config or 'default', safe='')}.{quote(dataset.split, safe='')}.jsonl"
    path = place / dataset.revision / name
    if COMMIT.fullmatch(dataset.revision) and path.exists():
        return path
    try:
        with quiet("datasets", "huggingface_hub"):
            path = place / _commit(dataset) / name
            if not path.exists():
                _fetch(dataset, path, home)
    except Exception as error:
        held = sorted(path.parent.name for path in place.glob(f"*/{name}"))
        raise DataError(_refusal(dataset, error, held)) from error
    return path


def _commit(dataset: HubDataset) -> str:
    """Ask which commit a revision is; of one that is no branch or tag, whether the hub has it and answers at all."""
    from huggingface_hub import HfApi

    return str(HfApi().dataset_info(dataset.hub, revision=dataset.revision).sha)


def _fetch(dataset: HubDataset, path: Path, home: Home) -> None:
    """Write the rows to `path`, whole or not at all; what the library keeps goes, when the file stands."""
    from datasets import load_dataset

    *_, repository, commit, _ = path.parts
    cache = home.root / "downloads" / "datasets" / f"{repository}@{commit}"
    data = load_dataset(
        f"hf://datasets/{dataset.hub}",  # never a folder of that name that happens to lie here
        dataset.config,
        split=dataset.split,
        revision=commit,
        cache_dir=str(cache),
    )
    media = [field.name for field in data.features.arrow_schema if "binary" in str(field.type)]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with temporary.open("wb") as out:
        out.writelines(orjson.dumps(_said(row), default=str) + b"\n" for row in data.remove_columns(media))
    flush(temporary)
    os.replace(temporary, path)
    shutil.rmtree(cache)


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _said(each) for key, each in value.items() if each is not None}
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return [_said(each) for each in value] if isinstance(value, list) else value


def _refusal(dataset: HubDataset, error: Exception, held: list[str]) -> str:
    from huggingface_hub.constants import ENDPOINT

    what = f"{dataset.hub}@{dataset.revision}, config {dataset.config or 'default'}, split {dataset.split}"
    why = next(iter(str(error).strip().splitlines()), "")
    have = f"held of it are the commits {', '.join(held)}" if held else "no commit of it is held"
    way = "name one of these as `revision` to read it without the network; or " if held else ""
    return (
        f"ingest.datasets: {what} was not fetched from {ENDPOINT}: {type(error).__name__}: {why}\n"
        f"  Nothing was read; {have}.\n"
        f"  Check the four names and the network, and HF_TOKEN where the owner must let you in; {way}"
        "download its files elsewhere and name them in `ingest.files`."
    )
