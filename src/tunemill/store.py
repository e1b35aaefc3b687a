"""Keep artifacts: the only module that knows places.

    <root>/<stage>/<key>/manifest.json   written last; a folder without it does not exist
    <root>/<stage>/.new-<pid>-…          being filled; swept when its process is gone
    <root>/<stage>/.resume-<key>         what a killed stage can go on from, until it is sealed
    <root>/<stage>/.damaged-<key>-…      set aside because a file was not what had been sealed

A reader sees the old or the new, never a mixture: files are flushed, the manifest is written last, then one rename.
"""

import contextlib
import fcntl
import functools
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson

from tunemill import faults
from tunemill.artifacts import PARTS, Artifact, FrozenModel, digest_of
from tunemill.errors import ArtifactDamaged, StoreError
from tunemill.files import FileHashes, flush, flush_tree, hash_all, write_flushed

MANIFEST = "manifest.json"
REPORT = "report"
"""Files under this folder may hold times; they are hashed but do not count for the digest."""
OUTSIDE = {MANIFEST, "prefect.json"}
"""Files of an artifact's folder that are not its content: the manifest, and Prefect's own cache record."""

A = TypeVar("A", bound=Artifact)


class SealedFile(FrozenModel):
    """Size in bytes and sha256 of one file."""

    sha256: str
    size: int


class Manifest(FrozenModel):
    """What was sealed: the key's parts, the digest, the files and the inputs it was made from."""

    stage: str
    key: str
    digest: str
    parts: dict[str, Any]
    """What the key was made from: stage, version, engines, inputs (digests), section."""
    made_from: dict[str, str]
    """Input name → `stage/key` of the artifact; follow it for lineage."""
    counts: dict[str, int]
    files: dict[str, SealedFile]

    def part(self, folder: str) -> str:
        """Give the digest of what lies in one folder of it."""
        return content_digest({name: file for name, file in self.files.items() if name.startswith(f"{folder}/")})

    def artifact(self, kind: type[A]) -> A:
        """Give the small JSON that travels."""
        return kind(key=self.key, digest=self.digest, counts=self.counts)


class Work:
    """The folder that a stage fills, and its way to read other artifacts."""

    def __init__(self, store: "Store", stage: str, key: str, folder: Path) -> None:
        self.store = store
        self.stage = stage
        self.key = key
        self.folder = folder
        self.counts: dict[str, int] = {}
        self.files: dict[str, SealedFile] | None = None
        """What was hashed when the folder was said to be complete."""

    def open(self, artifact: Artifact) -> Path:
        """Give the folder of an artifact after its bytes were checked against its manifest."""
        return self.store.open(artifact)

    @property
    def report(self) -> Path:
        """Folder for what people read; its bytes do not count for the digest."""
        return _made(self.folder / REPORT)

    @property
    def resume(self) -> Path:
        """Folder that survives a kill and is found again by the same key; gone once the artifact is sealed."""
        return _made(self.store.root / self.stage / f".resume-{self.key}")

    def seal(self, kind: type[A], **counts: int) -> A:
        """Say that the folder is complete; the store renames it when the stage returns."""
        self.counts, self.files = counts, hash_files(self.folder, self.store.hashes)
        return kind(key=self.key, digest=content_digest(self.files), counts=counts)


class Store:
    """Artifacts under one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._checked: dict[tuple[str, str], Manifest] = {}
        self.hashes = FileHashes()
        """What this process has read: a night's folder is mostly second names of files that were checked already."""

    @staticmethod
    @functools.cache
    def at(root: Path) -> "Store":
        """Give the one store that this process has of a root, so that it reads each artifact once to check it."""
        return Store(root)

    def folder(self, stage: str, key: str) -> Path:
        """Name the folder of a key, whether it stands or not."""
        return self.root / stage / key

    def manifest(self, stage: str, key: str) -> Manifest | None:
        """Read the manifest of a key without checking the files; None where nothing stands."""
        path = self.folder(stage, key) / MANIFEST
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ArtifactDamaged(path.parent, MANIFEST, f"not a manifest ({type(error).__name__})") from error

    def manifests(self, stage: str) -> list[Manifest]:
        """List the readable manifests of a stage, newest first."""
        found = sorted((self.root / stage).glob(f"[!.]*/{MANIFEST}"), key=lambda p: p.stat().st_mtime, reverse=True)
        with_errors = (self._readable(stage, path.parent.name) for path in found)
        return [manifest for manifest in with_errors if manifest]

    def _readable(self, stage: str, key: str) -> Manifest | None:
        with contextlib.suppress(ArtifactDamaged):
            return self.manifest(stage, key)
        return None

    def find(self, key: str) -> list[Manifest]:
        """List the manifests whose key begins with `key`, of all stages; parts only where no other has such a key."""
        found = sorted(self.root.glob(f"[!.]*/{key}*/{MANIFEST}"))
        whole = [path for path in found if path.parent.parent.name not in PARTS]
        manifests = (self._readable(path.parent.parent.name, path.parent.name) for path in whole or found)
        return [manifest for manifest in manifests if manifest]

    def check(self, stage: str, key: str) -> Manifest | None:
        """Hash every file of a held artifact once per process; None where none is held.

        Raises:
            ArtifactDamaged: a file is missing, has another size or other bytes.
        """
        if (known := self._checked.get((stage, key))) and (self.folder(stage, key) / MANIFEST).exists():
            return known
        manifest = self.manifest(stage, key)
        if manifest is None:
            return None
        folder = self.folder(stage, key)
        for name, sealed in manifest.files.items():
            path = folder / name
            if not path.is_file():
                raise ArtifactDamaged(folder, name, "the file is missing")
            if (size := path.stat().st_size) != sealed.size:
                raise ArtifactDamaged(folder, name, f"{size:,} bytes where {sealed.size:,} were sealed")
        found = self.hashes([folder / name for name in manifest.files])
        for (name, sealed), sha256 in zip(manifest.files.items(), found, strict=True):
            if sha256 != sealed.sha256:
                raise ArtifactDamaged(folder, name, f"the bytes differ from those sealed ({sealed.sha256[:12]}…)")
        self._checked[stage, key] = manifest
        return manifest

    def held(self, stage: str, key: str) -> tuple[Manifest | None, ArtifactDamaged | None]:
        """Find a verified artifact; a damaged one is set aside and named instead of being believed."""
        try:
            return self.check(stage, key), None
        except ArtifactDamaged as damage:
            self.set_aside(stage, key)
            return None, damage

    def open(self, artifact: Artifact) -> Path:
        """Give the folder of an artifact after its bytes were checked.

        Raises:
            StoreError: nothing stands under this key, or what stands holds something else.
        """
        manifest = self.check(artifact.stage, artifact.key)
        folder = self.folder(artifact.stage, artifact.key)
        if manifest is None:
            raise StoreError(f"{folder} is not there; run the pipeline again to make it")
        if manifest.digest != artifact.digest:
            raise StoreError(f"{folder} holds {manifest.digest[:12]}…, asked for was {artifact.digest[:12]}…")
        return folder

    @contextlib.contextmanager
    def lock(self, stage: str, key: str) -> Iterator[None]:
        """Let one process make a key at a time; the kernel frees the lock when its holder dies."""
        path = _made(self.root / ".locks") / f"{stage}-{key}"
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def work(self, stage: str, key: str) -> Iterator[Work]:
        """Give an empty folder under a temporary name; what is not committed is removed."""
        folder = self.root / stage / f".new-{os.getpid()}-{_started(os.getpid())}-{uuid.uuid4().hex[:8]}"
        folder.mkdir(parents=True)
        try:
            yield Work(self, stage, key, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, work: Work, kind: type[A], parts: dict[str, Any], made_from: dict[str, str]) -> A:
        """Flush the files, write the manifest last and rename; a folder that stood first wins.

        Raises:
            StoreError: files were added, removed or made longer or shorter after the folder was said to be complete.
        """
        files = hash_files(work.folder) if work.files is None else work.files
        if sizes(work.folder) != {name: file.size for name, file in files.items()}:
            raise StoreError(f"{work.stage}: its files changed after it was sealed; this is a bug, report it")
        manifest = Manifest(
            stage=work.stage,
            key=work.key,
            digest=content_digest(files),
            parts=parts,
            made_from=made_from,
            counts=work.counts,
            files=files,
        )
        write_flushed(work.folder / MANIFEST, orjson.dumps(manifest.model_dump(), option=orjson.OPT_INDENT_2))
        flush_tree(work.folder)
        faults.point(f"{work.stage}.filled")
        target = self.folder(work.stage, work.key)
        if target.exists() and not (target / MANIFEST).exists():
            shutil.rmtree(target)
        with contextlib.suppress(OSError):
            os.rename(work.folder, target)
            self._checked[work.stage, work.key] = manifest
        stands = self.manifest(work.stage, work.key)
        if stands is None:
            raise StoreError(f"{target} could not be put in place; is the disk full or read-only?")
        flush(target.parent)
        shutil.rmtree(self.root / work.stage / f".resume-{work.key}", ignore_errors=True)
        faults.point(f"{work.stage}.sealed")
        return stands.artifact(kind)

    def set_aside(self, stage: str, key: str) -> None:
        """Move a damaged folder out of the way; the next sweep removes it."""
        self._checked.pop((stage, key), None)
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.folder(stage, key), self.root / stage / f".damaged-{key}-{uuid.uuid4().hex[:8]}")

    def sweep(self) -> int:
        """Remove what dead processes left half filled and what was set aside earlier; return how many folders."""
        dead = [p for p in self.root.glob("*/.new-*") if not _alive(p.name)]
        gone = [*dead, *self.root.glob("*/.damaged-*")]
        for path in gone:
            shutil.rmtree(path, ignore_errors=True)
        return len(gone)


def hash_files(folder: Path, hashed: Callable[[Sequence[Path]], Sequence[str]] = hash_all) -> dict[str, SealedFile]:
    """Hash every file under a folder but the manifest and Prefect's record; names are relative, sorted."""
    found = sizes(folder)
    hashes = hashed([folder / name for name in found])
    return {name: SealedFile(sha256=sha256, size=found[name]) for name, sha256 in zip(found, hashes, strict=True)}


def sizes(folder: Path) -> dict[str, int]:
    """Give the size of every file under a folder but the manifest and Prefect's record; names are relative, sorted."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    named = ((p.relative_to(folder).as_posix(), p) for p in paths)
    return {name: p.stat().st_size for name, p in named if name not in OUTSIDE}


def content_digest(files: dict[str, SealedFile]) -> str:
    """Hash the hashes of the files that count: all but those under report/."""
    return digest_of({name: f.sha256 for name, f in files.items() if not name.startswith(f"{REPORT}/")})


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _started(pid: int) -> str:
    """Give the kernel's start time of a process, so that a reused pid is not taken for the old one; "" when gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _alive(name: str) -> bool:
    _, pid, started, _ = name.split("-", 3)
    return _started(int(pid)) == started
