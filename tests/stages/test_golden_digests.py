"""Hold what each deterministic stage puts out to the byte: who changes it has to raise the stage's version.

The literals are those of the locked packages, on the example's data with the settings of the quickstart.
"""

import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tasks.deduplicate import deduplicate
from tasks.ingest import ingest
from tasks.model import model, tokenizer
from tasks.page import page
from tasks.split import split
from tasks.stage import Stage
from tasks.validate import validate
from tests.models.conftest import CHATML, SPECIAL, byte_level
from tunemill.artifacts import Artifact, BenchmarkFiles, SourceFile, SourceFiles, Tokenizer, digest_of
from tunemill.config import PipelineConfig, load
from tunemill.files import hash_file
from tunemill.home import PROJECT
from tunemill.models.sources import locate
from tunemill.quality.page_settings import Task
from tunemill.sources import expand
from tunemill.store import Store

GOLDEN = {
    ("ingest", 5): ("8f7ee2ca80808da246f21b8cf7fd3097", "2ab3644efb760f8656c8f2097b851ee4"),
    ("validate", 5): ("85f96cc2382428ea306f129315cca817", "f4b13ea9d45c13c86c1469be0f9779af"),
    ("deduplicate", 7): ("a6944e3679248055eec638c9fff2e993", "9da4aa0b90446ecb322e1e6608e69cd9"),
    ("split", 6): ("d4ab189beed74c59aef76d66db02c46b", "44642c2a09b04c3a81b16e7d03c901f2"),
    ("page", 4): ("dc1352af50fa9b6d29ff09b25de236df", "7cb653878f5cd1f98d1c79879c9d642f"),
    ("tokenizer", 1): ("296fd418afcc8c292ade1c413d2a15da", "9345c475cbd035a4124ff76eb69072e8"),
    ("model", 1): ("296fd418afcc8c292ade1c413d2a15da", "8e9ec6ad86e69b6228b49de1b22345b5"),
}
"""(stage, version) → (digest of what it was given, digest of what it put out)."""

Ran = dict[str, tuple[int, str, str]]
"""Stage → its version, the digest of what it was given, the digest of what it put out."""


def ran(store: Store, stage: Stage[Any, Any], *arguments: Any) -> tuple[Artifact, tuple[int, str, str]]:
    made = stage.run(store, *arguments)
    given = {n: a.digest for n, a in zip(stage.parameters, arguments, strict=True) if hasattr(a, "digest")}
    return made, (stage.version, digest_of(given), made.digest)


def small_tokenizer(store: Store) -> Tokenizer:
    """Seal a byte-level BPE of 400 tokens; under it 28 rows of the example are longer than 256 tokens."""
    with store.work("tokenizer", "0" * 32) as work:
        (work.folder / "tokenizer.json").write_text(byte_level().to_str(), encoding="utf-8")
        (work.folder / "tokenizer_config.json").write_text(json.dumps(SPECIAL))
        (work.folder / "chat_template.jinja").write_text(CHATML)
        work.seal(Tokenizer)
        return store.commit(work, Tokenizer, {}, {})


@pytest.fixture(scope="module")
def config() -> PipelineConfig:
    return load(PROJECT / "pipeline_configs" / "quickstart.yaml")


@pytest.fixture(scope="module")
def prepared(config: PipelineConfig, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    store = Store(tmp_path_factory.mktemp("store"))
    files = [SourceFile(sha256=hash_file(p), path=str(p)) for p in expand(config.ingest.files, PROJECT)]
    found: Ran = {}
    raw, found["ingest"] = ran(store, ingest, SourceFiles(files=tuple(files)), config.ingest)
    words = small_tokenizer(store)
    valid, found["validate"] = ran(store, validate, raw, words, config.validation)
    clean, found["deduplicate"] = ran(store, deduplicate, valid, None, config.deduplicate)
    splits, found["split"] = ran(store, split, clean, None, BenchmarkFiles(files=()), config.split)
    _, found["page"] = ran(store, page, raw, valid, words, clean, splits, config.page, Task(type=config.task_type))
    return found


@pytest.mark.parametrize("name", ["ingest", "validate", "deduplicate", "split", "page"])
def test_a_data_stage_puts_out_what_its_version_stands_for(prepared: Ran, name: str) -> None:
    assert not (fault := unlike_golden(name, *prepared[name])), fault


@pytest.mark.model
@pytest.mark.parametrize("stage", [tokenizer, model], ids=lambda stage: stage.name)
def test_a_model_stage_puts_out_what_its_version_stands_for(
    config: PipelineConfig, tmp_path: Path, stage: Stage[Any, Any]
) -> None:
    _, seen = ran(Store(tmp_path), stage, locate(config.model, PROJECT, hash_file))
    assert not (fault := unlike_golden(stage.name, *seen)), fault


def unlike_golden(name: str, version: int, given: str, made: str) -> str:
    """Say what has to be done, and the line to write into `GOLDEN`; "" where the digests are those written there."""
    expected = GOLDEN.get((name, version))
    if expected == (given, made):
        return ""
    if expected is None:
        advice = f"version {version} of {name} has no digest here: write it"
    elif expected[0] != given:
        advice = (
            f"{name} was given something else than when its digest was written here; if that is meant, write the new "
            "digests here and leave its version as it is"
        )
    else:
        advice = (
            f"the output of {name} changed: raise its version in the same commit and write the new digest here "
            "(where only a setting or its default changed, leave the version: settings are in the key)"
        )
    return f'{advice}\n    ("{name}", {version}): ("{given}", "{made}"),{unlike_the_lock()}'


def unlike_the_lock() -> str:
    """Name the packages that are not as locked: parquet files hold pyarrow's version, configurations transformers'."""
    pinned = re.findall(r"(?m)^([\w.-]+)==(\S+)", (PROJECT / "requirements.lock").read_text())
    versions = {
        each.metadata["Name"].lower(): each.version.partition("+")[0] for each in importlib.metadata.distributions()
    }
    other = [
        f"{name} {versions.get(name.lower(), 'absent')} (locked {version})"
        for name, version in pinned
        if versions.get(name.lower()) != version
    ]
    if not other:
        return ""
    return (
        f"\n  Not as locked: {', '.join(other)}. Their bytes may differ: pip install -r requirements.lock, then look."
    )
