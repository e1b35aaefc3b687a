"""Say what an export target is: something that puts files into a folder and knows the command that serves them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tunemill.exporting.settings import ExportSettings


class Shipment(NamedTuple):
    """The verified folders that files are taken from, and what is stamped on those that can carry it."""

    merged: Path
    quantized: Path
    adapter: Path
    tokenizer: Path
    facts: dict[str, str]
    """Lineage; keys begin with `tunemill.`."""
    base: str
    """Name of the base model that is no place on this machine."""
    settings: ExportSettings


class Target(NamedTuple):
    """One way to ship a model."""

    write: Callable[[Shipment, Path], None]
    """Fill the target's folder."""
    serve: Callable[[Path, str], tuple[str, ...]]
    """Give the commands that serve the folder under a name; none where it is not served by itself."""
