"""Say what a stage is: a named, versioned function `(work, artifacts…, section) → artifact`.

A stage knows its key without running and without Prefect, so that `tunemill plan` can ask what is held. Called inside a
flow it is a Prefect task with retries, whose cache record lies in the artifact's own folder: delete the folder, and
Prefect and the store forget together. `stage.run(store, …)` is the plain call.
"""

import functools
import importlib.metadata
import inspect
import time
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from tasks.run import Run, StageRecord
from tunemill import faults
from tunemill.artifacts import Artifact, digest_of
from tunemill.errors import StoreError, TunemillError
from tunemill.home import Home
from tunemill.section import Section
from tunemill.store import Manifest, Store, Work

P = ParamSpec("P")
A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class Retries:
    """How often, and after how many seconds at first, a fault of the world is tried again; ours never are."""

    times: int = 3
    first_delay: float = 2


@dataclass(frozen=True)
class Stage(Generic[P, A]):
    """One step of the pipeline, described without importing what runs it."""

    function: Callable[Concatenate[Work, P], A]
    makes: type[A]
    version: int
    engines: tuple[str, ...] = ()
    retries: Retries = field(default_factory=Retries)

    @property
    def name(self) -> str:
        """The stage's one name: in the store, in Prefect, in MLflow and on the screen."""
        return self.makes.stage

    @functools.cached_property
    def parameters(self) -> dict[str, Any]:
        """Parameter name → annotation, the work folder left out."""
        hints = typing.get_type_hints(self.function)
        return {name: hints[name] for name in list(inspect.signature(self.function).parameters)[1:]}

    def parts(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Give everything that the result depends on, JSON-ready: the key is its hash."""
        sections = {n: a.decisions() for n, a in arguments.items() if isinstance(a, Section)}
        inputs = {n: a.digest if a is not None else None for n, a in arguments.items() if n not in sections}
        return {
            "stage": self.name,
            "version": self.version,
            "engines": {engine: importlib.metadata.version(engine) for engine in self.engines},
            "inputs": inputs,
            "section": sections,
        }

    def key(self, arguments: dict[str, Any]) -> str:
        """Hash the parts: the same question has the same folder."""
        return digest_of(self.parts(arguments))

    def run(self, store: Store, *args: P.args, **kwargs: P.kwargs) -> A:
        """Make the artifact, or find it, in this process and without Prefect."""
        return self._make(store, self._arguments(*args, **kwargs))[0]

    def held(self, *args: P.args, **kwargs: P.kwargs) -> A | None:
        """Find the artifact without making it and without reading its files; None where nothing stands."""
        store, key = Store.at(Home.find().store), self.key(self._arguments(*args, **kwargs))
        manifest = store.manifest(self.name, key)
        return manifest.artifact(self.makes) if manifest else None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> A:
        """Run as a Prefect task inside a flow; what is held is shown as Cached and makes nothing."""
        arguments = self._arguments(*args, **kwargs)
        run, store = Run.current(), Store.at(Home.find().store)
        begun = time.monotonic()
        held, damage = store.held(self.name, self.key(arguments))
        if damage:
            run.warn(str(damage))
        run.began(self.name, held is not None)
        task = _prefect_task(self).with_options(refresh_cache=held is None)
        made = task(*arguments.values())
        artifact: A = made if isinstance(made, self.makes) else self._held(store, arguments)
        run.ended(StageRecord.of(artifact, held is not None, time.monotonic() - begun))
        return artifact

    def _arguments(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        bound = inspect.signature(self.function).bind(None, *args, **kwargs)
        bound.apply_defaults()
        return dict(list(bound.arguments.items())[1:])

    def _held(self, store: Store, arguments: dict[str, Any]) -> A:
        manifest = store.manifest(self.name, self.key(arguments))
        if manifest is None:
            raise StoreError(f"{store.folder(self.name, self.key(arguments))} vanished while it was being used")
        return manifest.artifact(self.makes)

    def _make(self, store: Store, arguments: dict[str, Any]) -> tuple[A, bool]:
        """Find or make the artifact under the key's lock; also say whether it was held."""
        parts = self.parts(arguments)
        key = digest_of(parts)
        with store.lock(self.name, key):
            held, _ = store.held(self.name, key)
            if held:
                return held.artifact(self.makes), True
            faults.point(f"{self.name}.begin")
            with store.work(self.name, key) as work:
                self.function(work, *arguments.values())  # type: ignore[call-arg]
                return store.commit(work, self.makes, parts, _origins(arguments)), False


def stage(
    *, makes: type[A], version: int, engines: tuple[str, ...] = (), retries: Retries | None = None
) -> Callable[[Callable[Concatenate[Work, P], A]], Stage[P, A]]:
    """Describe a function as a stage. Raise `version` in the commit that changes what it puts out."""

    def describe(function: Callable[Concatenate[Work, P], A]) -> Stage[P, A]:
        return Stage(function, makes, version, engines, retries or Retries())

    return describe


def worth_retrying(error: BaseException) -> bool:
    """Say whether a second try could end otherwise: our own errors are about the input, not about luck."""
    return not isinstance(error, TunemillError)


def changed(parts: dict[str, Any], held: list[Manifest]) -> list[str]:
    """Say which parts of a key differ from those of the held artifact that is nearest to it."""
    differences = [sorted(_differences(manifest.parts, parts)) for manifest in held]
    return min(differences, key=len, default=[])


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        inner = [(k, old.get(k), new.get(k)) for k in {*old, *new}]
        return [line for k, o, n in inner for line in _differences(o, n, f"{name}.{k}" if name else k)]
    if old == new:
        return []
    short = name.startswith("inputs.")
    return [f"{name} differs" if short else f"{name} {old!r} → {new!r}"]


def _origins(arguments: dict[str, Any]) -> dict[str, str]:
    return {n: f"{a.stage}/{a.key}" for n, a in arguments.items() if isinstance(a, Artifact)}


@functools.cache
def _prefect_task(stage: Stage[Any, Any]) -> Any:
    """Build the Prefect task of a stage, once per process."""
    from prefect import task
    from prefect.states import Completed
    from prefect.tasks import exponential_backoff

    def body(*args: Any) -> Any:
        arguments = dict(zip(stage.parameters, args, strict=True))
        artifact, held = stage._make(Store.at(Home.find().store), arguments)
        return Completed(name="Cached", message="held in the store", data=artifact) if held else artifact

    whole = inspect.signature(stage.function)
    shown = whole.replace(parameters=list(whole.parameters.values())[1:], return_annotation=Any)
    setattr(body, "__signature__", shown)  # noqa: B010
    return task(
        name=stage.name,
        task_run_name=stage.name,
        retries=stage.retries.times,
        retry_delay_seconds=exponential_backoff(stage.retries.first_delay),
        retry_jitter_factor=0.5,
        retry_condition_fn=retried,
        cache_key_fn=lambda context, arguments: f"{stage.name}/{stage.key(arguments)}/prefect.json",
        persist_result=True,
        result_storage=Home.find().store,
        result_serializer="json",
    )(body)


def retried(task: Any, task_run: Any, state: Any) -> bool:
    """Say of a task run that failed whether Prefect tries it again."""
    try:
        state.result(raise_on_failure=True)
    except Exception as error:
        return worth_retrying(error)
    return False
