"""Keep the versions of a registered model in MLflow: what was verified, and which of them is in use.

    challenger   the version that was judged last and that the gate does not stop
    champion     the version in use; the registered model's tag `tunemill.champions` lists them all, oldest first

An alias moves by compare-and-swap, so that nobody replaces a champion that they have not seen. MLflow has none: it
overwrites an alias without looking. Here the look and the write lie under a file lock in `TUNEMILL_HOME`, which the
kernel frees when its holder dies, and the alias is read again after the write. So processes that share a home are safe,
whatever server they use. Machines that share a server and no home are not: where two look within the same
milliseconds, both write, the later stands, and the earlier is told only if the later's write came before its second
look. Both versions then carry the same `tunemill.champion_before`.
"""

import contextlib
import datetime
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import orjson

from tunemill.artifacts import FrozenModel
from tunemill.errors import ConfigError, GateNotPassed
from tunemill.home import Home
from tunemill.section import Section
from tunemill.store import Store
from tunemill.tracking import connect

CHAMPION, CHALLENGER = "champion", "challenger"
DIGEST, MODEL, VERDICT = "tunemill.digest", "tunemill.logged_model", "tunemill.verdict"
MADE_FROM = "tunemill.made_from"
"""`stage/key` of everything that a version was made from, with spaces between."""
CHAMPIONS, SINCE, BEFORE = "tunemill.champions", "tunemill.champion_since", "tunemill.champion_before"
REJECTED = "tunemill.rejected"
REMEMBERED = 500
"""Champions that are remembered; the tag holds 5,000 characters."""
DESCRIPTION_LENGTH = 5000
"""Characters that MLflow's database takes for the description of a version."""


class PromoteSettings(Section):
    """Say what a run may do to the model registry by itself; `tunemill promote` and `tunemill rollback` do the rest."""

    when: Literal["never", "approval", "verdict"] = "approval"
    """
    never: register nothing. approval: register the version, as `challenger` unless the gate stops it; a person makes it
    `champion`. verdict: make it `champion` at once where the gate says PROMOTE; the gate knows base and few-shot
    prompting, and not yet the champion itself.
    """


class Version(FrozenModel):
    """One version of a registered model, as the registry holds it."""

    name: str
    number: int
    run_id: str
    tags: dict[str, str]
    aliases: tuple[str, ...]

    @property
    def digest(self) -> str:
        """What the files of this version hold; empty where something else registered it."""
        return self.tags.get(DIGEST, "")

    @property
    def model_id(self) -> str:
        """The logged model that shows its files."""
        return self.tags.get(MODEL, "")

    @property
    def keys(self) -> list[str]:
        """The keys of everything that it was made from."""
        return [origin.rpartition("/")[2] for origin in self.tags.get(MADE_FROM, "").split()]

    @property
    def verdict(self) -> str:
        """What the gate said of it last."""
        return self.tags.get(VERDICT, "")

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


class Registry:
    """The model registry that belongs to a home."""

    def __init__(self, home: Home) -> None:
        """Ask nothing yet, so that it cannot fail where MLflow is down."""
        self.home = home
        self.client = connect(home)

    def names(self) -> list[str]:
        """List the registered models."""
        return sorted(model.name for model in _pages(self.client.search_registered_models, ""))

    def versions(self, name: str) -> list[Version]:
        """List the versions of a model, oldest first; none where nothing is registered under this name."""
        if (model := self._model(name)) is None:
            return []
        entries = _pages(self.client.search_model_versions, f"name = '{name}'")
        return sorted((_version(entry, model.aliases) for entry in entries), key=lambda version: version.number)

    def find(self, name: str, digest: str) -> Version | None:
        """Find the version that holds these files; of two, as two machines may make, always the first."""
        return next((version for version in self.versions(name) if version.digest == digest), None)

    def holder(self, name: str, alias: str) -> int | None:
        """Give the number of the version that has an alias."""
        model = self._model(name)
        return int(model.aliases[alias]) if model and alias in model.aliases else None

    def register(
        self, name: str, digest: str, run_id: str, model: Callable[[], str], tags: Mapping[str, str]
    ) -> Version:
        """Take the version of this digest, or make one.

        Args:
            model: logs the files and gives the id of the logged model; called only where a version must be made.
        """
        from mlflow.exceptions import MlflowException

        with self._lock(name):
            if found := self.find(name, digest):
                return found
            if self._model(name) is None:
                with contextlib.suppress(MlflowException):  # another machine was first; or the next call fails as well
                    self.client.create_registered_model(name)
            logged = model()
            source = f"models:/{logged}"
            facts = {**tags, DIGEST: digest, MODEL: logged}
            self.client.create_model_version(name, source, run_id, facts, await_creation_for=0, model_id=logged)
            made = self.find(name, digest)
        assert made is not None, "a version that was made is found"
        return made

    def describe(self, version: Version, description: str, tags: Mapping[str, str]) -> None:
        """Set the page's text, the tags that differ, and the logged model's way to the version."""
        self.client.update_model_version(version.name, str(version.number), description[:DESCRIPTION_LENGTH])
        for name, value in tags.items():
            if version.tags.get(name) != value:
                self.tag(version, name, value)
        logged = self.client.get_logged_model(version.tags[MODEL])
        known = orjson.loads(logged.tags.get("mlflow.modelVersions", "[]"))
        if (own := {"name": version.name, "version": version.number}) not in known:
            tag = {"mlflow.modelVersions": orjson.dumps([*known, own]).decode()}
            self.client.set_logged_model_tags(logged.model_id, tag)

    def challenge(self, version: Version) -> None:
        """Make a version the challenger, whoever was."""
        self.client.set_registered_model_alias(version.name, CHALLENGER, str(version.number))

    def withdraw(self, version: Version) -> None:
        """Take the challenger's alias from a version, if it has it."""
        if self.holder(version.name, CHALLENGER) == version.number:
            self.client.delete_registered_model_alias(version.name, CHALLENGER)

    def reject(self, version: Version, by: str, reason: str) -> None:
        """Write down that a version is not to become champion, and who said so; it is no challenger any more."""
        self.tag(version, REJECTED, f"{_now()} by {by}: {reason}")
        self.withdraw(version)

    def swap(self, name: str, alias: str, expected: int | None, new: int) -> None:
        """Move an alias from the version `expected` (None: from nobody) to `new`.

        Raises:
            GateNotPassed: another version has it; the message names it.
        """
        with self._lock(name):
            self._swap(name, alias, expected, new)

    def crown(self, version: Version, expected: int | None, by: str, reason: str) -> None:
        """Make a version the champion in place of `expected`, and write down who did it and why.

        Raises:
            GateNotPassed: somebody else moved the champion meanwhile; nothing is changed.
        """
        with self._lock(version.name):
            self._expect(version.name, CHAMPION, expected, version.number)
            past = self._champions(version.name)
            self.tag(version, "tunemill.promoted_by", by)
            self.tag(version, "tunemill.reason", reason)
            self.tag(version, BEFORE, "none" if expected is None else str(expected))
            self.tag(version, SINCE, _now())
            self._swap(version.name, CHAMPION, expected, version.number)
            self._remember(version.name, [*past, version.number])
            self.withdraw(version)

    def rollback(self, name: str, by: str, reason: str) -> tuple[Version, int | None]:
        """Give the alias `champion` back to the version that had it before; also say from which it was taken.

        Raises:
            ConfigError: the name is not known, or no earlier champion stands.
        """
        if self._model(name) is None:
            names = ", ".join(self.names()) or "none"
            raise ConfigError(f"no model is registered under the name {name!r}; known here: {names}")
        with self._lock(name):
            holder = self.holder(name, CHAMPION)
            past = self._champions(name)
            standing = {version.number: version for version in self.versions(name)}
            earlier = past[:-1] if holder is not None else past
            while earlier and earlier[-1] not in standing:
                earlier.pop()
            if not earlier:
                now = "no version" if holder is None else f"version {holder}"
                raise ConfigError(
                    f"{name}: {now} is the champion and no champion before it stands; nothing was changed"
                )
            self._remember(name, earlier)
            if holder is not None:
                self.tag(standing[holder], "tunemill.rolled_back", f"{_now()} by {by}: {reason}")
            self._swap(name, CHAMPION, holder, earlier[-1])
            return standing[earlier[-1]], holder

    def _swap(self, name: str, alias: str, expected: int | None, new: int) -> None:
        self._expect(name, alias, expected, new)
        self.client.set_registered_model_alias(name, alias, str(new))
        self._expect(name, alias, new, new)

    def _expect(self, name: str, alias: str, expected: int | None, new: int) -> None:
        if (holder := self.holder(name, alias)) != expected:
            was = "no version" if expected is None else f"version {expected}"
            now = "no version" if holder is None else f"version {holder}"
            raise GateNotPassed(
                f"{name}: version {new} is not {alias}: {now} is, where {was} was expected\n"
                "  Somebody else moved it meanwhile. Look at that version, then run the command again."
            )

    def _model(self, name: str) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _champions(self, name: str) -> list[int]:
        """Read the champions, oldest first, the present one last, also where a crash or a hand moved only the alias."""
        model = self._model(name)
        past = [int(number) for number in model.tags.get(CHAMPIONS, "").split()]
        present = [int(model.aliases[CHAMPION])] if CHAMPION in model.aliases else []
        return past if past[-1:] == present else past + present

    def _remember(self, name: str, champions: list[int]) -> None:
        value = " ".join(str(number) for number in champions[-REMEMBERED:])
        self.client.set_registered_model_tag(name, CHAMPIONS, value)

    def tag(self, version: Version, name: str, value: str) -> None:
        """Set one tag of a version."""
        self.client.set_model_version_tag(version.name, str(version.number), name, value)

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with Store(self.home.store).lock("registry", name):
            yield


def _pages(search: Callable[..., Any], wanted: str) -> Iterator[Any]:
    page = search(wanted)
    yield from page
    while page.token:
        page = search(wanted, page_token=page.token)
        yield from page


def _version(entry: Any, aliases: Mapping[str, Any]) -> Version:
    number = int(entry.version)
    return Version(
        name=entry.name,
        number=number,
        run_id=entry.run_id or "",
        tags=dict(entry.tags),
        aliases=tuple(sorted(alias for alias, holder in aliases.items() if int(holder) == number)),
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
