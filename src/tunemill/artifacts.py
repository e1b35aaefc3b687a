"""Say what travels between stages: a sealed folder's name and digest, never its place and never its data."""

import hashlib
from typing import Any, ClassVar, Protocol

import orjson
from pydantic import BaseModel, ConfigDict

KEY_LENGTH = 32
"""Hex digits of a key or digest that are kept: 128 bits."""


def digest_of(value: Any) -> str:
    """Hash a JSON-ready value, independent of the order of its keys: 32 hex digits."""
    canonical = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(canonical).hexdigest()[:KEY_LENGTH]


class Digested(Protocol):
    """Anything whose content has a digest, so that it can be the input of a stage."""

    @property
    def digest(self) -> str:
        """What it holds, as hex digits."""


class FrozenModel(BaseModel):
    """A small value that travels as JSON and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Artifact(FrozenModel):
    """A sealed folder: `key` says what it was made from, `digest` what it holds."""

    stage: ClassVar[str]
    """The stage that makes it; also the folder under the store."""

    key: str
    digest: str
    counts: dict[str, int] = {}
    """Rows, tokens or steps that a person would like to see."""


class Tokenizer(Artifact):
    """tokenizer.json, its configuration and the chat template."""

    stage = "tokenizer"


class BaseWeights(Artifact):
    """config.json and the safetensors of the base model."""

    stage = "model"


class RawDataset(Artifact):
    """rows/ as read, rejected.jsonl, passed_over/, and disliked/ where `thumbs_down: keep`."""

    stage = "ingest"


class RawFile(Artifact):
    """What was read from one source file, named as in RawDataset; what there is none of has no file."""

    stage = "ingest-file"


class ValidFile(Artifact):
    """What the rules on rows said of the rows of one source file, as `tunemill.quality.found` writes it."""

    stage = "validate-file"


PARTS = frozenset({RawFile.stage, ValidFile.stage})
"""Stages that make pieces of a dataset, so that a night reads and checks only what is new."""


class ValidDataset(Artifact):
    """rows/ that passed the expectations, rejected.jsonl, and the report."""

    stage = "validate"


class CleanDataset(Artifact):
    """rows/ without duplicates, duplicates.jsonl and contradictions.jsonl; and what a later night needs to know of all
    rows: index/, placed/, listed/ and sources.json."""

    stage = "deduplicate"


class Splits(Artifact):
    """train/, validation/, test/, and certificate.json; what was left out in bridges.jsonl and
    contaminated.jsonl; ledger/ with a segment a night: where every row stands that was ever dealt; and prompts/, by
    which its prompts are looked up."""

    stage = "split"


class DataPage(Artifact):
    """page.json with what became of every row, and the page for people: report/page.md and its pictures."""

    stage = "page"


class Adapter(Artifact):
    """adapter/ with the trained weights, training.json, and the report."""

    stage = "train"


class Evaluation(Artifact):
    """summary.json, generations.jsonl, scores, and the report."""

    stage = "evaluate"


class Merged(Artifact):
    """checkpoint/ with the adapter merged into the base it was trained on, and merge.json."""

    stage = "merge"


class Quantized(Artifact):
    """f16.gguf and the quantized GGUF that ships, with quantize.json."""

    stage = "quantize"


class Exported(Artifact):
    """One folder a target (gguf/, merged/, adapter/), lineage.json and SHA256SUMS: the files that ship."""

    stage = "export"


class Verification(Artifact):
    """verification.json for the gate, measures.json with bounds and noise floors, replies.jsonl, and the report."""

    stage = "verify"


class Decision(Artifact):
    """gate.json: PROMOTE, REJECT, CANNOT_TELL or INVALID, with every rule's interval."""

    stage = "gate"


class BaseGguf(Artifact):
    """q8_0.gguf of the untuned base, to be asked beside the tuned model."""

    stage = "base-gguf"


class SourceFile(FrozenModel):
    """One input file: what it holds, and where it lies tonight."""

    sha256: str
    path: str

    @property
    def digest(self) -> str:
        """What it holds; where it lies changes nothing."""
        return self.sha256


class SourceFiles(FrozenModel):
    """The files of a run in the order of their digests, so that names and order change nothing."""

    files: tuple[SourceFile, ...]

    @property
    def digest(self) -> str:
        """Hash of the files' digests."""
        return digest_of(sorted(file.sha256 for file in self.files))


class RowsFile(FrozenModel):
    """One file of rows inside a sealed dataset: all that one source file gave."""

    source: str
    """sha256 of that file; the name of this one."""
    sha256: str
    path: str

    @property
    def digest(self) -> str:
        """What it holds; where it lies changes nothing."""
        return self.sha256


class BenchmarkFiles(SourceFiles):
    """Files of benchmarks whose items must not be trained on."""
