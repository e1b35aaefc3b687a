"""Errors that a person can act on: what happened with its number, where, and what to do next.

    TunemillError            exit 1   never retried, printed without a traceback
    ├── ConfigError          exit 2   the YAML or an override is wrong
    │   └── MissingExtra     exit 2   an optional package is not installed
    ├── DataError            exit 3   the rows are wrong, or too many of them are
    ├── ModelError           exit 3   the base model or its tokenizer cannot be used
    ├── TrainingError        exit 3   training ended without a model that can be trusted
    ├── GateNotPassed        exit 4   the run is done and its result may not go further
    ├── PoolError            exit 1   a run in another pool ended without what it was to make
    └── StoreError           exit 1   the store holds something that it should not

Everything else is a fault of the world or a bug: it is retried by the task's policy and keeps its traceback.
"""

from pathlib import Path


class TunemillError(Exception):
    """Stop with a message for a person; `exit_code` becomes the exit status of the process."""

    exit_code = 1


class ConfigError(TunemillError):
    """Report every fault of a configuration at once, one line each."""

    exit_code = 2


class MissingExtra(ConfigError):
    """Name the optional package that is not installed and the pip line that brings it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install -e '.[{extra}]'")


class DataError(TunemillError):
    """Report rows that cannot be used, or too many of them."""

    exit_code = 3


class ModelError(TunemillError):
    """Report a base model, tokenizer or chat template that cannot be used."""

    exit_code = 3


class TrainingError(TunemillError):
    """Report a training that ended without a model that can be trusted."""

    exit_code = 3


class GateNotPassed(TunemillError):
    """Report a finished run whose result may not go further."""

    exit_code = 4


class PoolError(TunemillError):
    """Report a run in another pool that ended without what it was to make."""


class StoreError(TunemillError):
    """Report a folder in the store that is damaged, foreign or missing."""


class ArtifactDamaged(StoreError):
    """Name the first file whose bytes are not those that were sealed."""

    def __init__(self, folder: Path, file: str, reason: str) -> None:
        super().__init__(f"{folder}/{file}: {reason}; the folder is set aside and made again by the next run")
        self.folder = folder
        self.file = file
