"""Load a pipeline's configuration: all errors at once, each with its line and the way out.

pipeline_configs/bad.yaml:2  split: shares add up to 1.1, not 1
pipeline_configs/bad.yaml:8  train.method.rnk: no such setting; did you mean `rank`?
"""

import difflib
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from tunemill.dedup.settings import DeduplicateSettings
from tunemill.errors import ConfigError
from tunemill.evaluation import gate_settings
from tunemill.evaluation.gate_settings import GateSettings
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.exporting.quantize_settings import QuantizeSettings
from tunemill.exporting.settings import ExportSettings
from tunemill.exporting.verify_settings import VerifySettings
from tunemill.models.settings import ModelSettings
from tunemill.nights import NightlySettings
from tunemill.quality.page_settings import PageSettings
from tunemill.quality.settings import ValidateSettings
from tunemill.quality.sizes import TaskType
from tunemill.registry import PromoteSettings
from tunemill.section import Section
from tunemill.sources.settings import IngestSettings
from tunemill.splits import SplitSettings
from tunemill.training.settings import TrainSettings

Place = tuple[str | int, ...]


class PipelineConfig(Section):
    """Everything that a run is asked for, in the order of the stages."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    """Name of the product; MLflow's experiment and the registered model carry it."""
    task_type: TaskType = "new_task"
    """What is taught: it sets how many rows the course recommends."""
    model: ModelSettings
    """The base model: `packaged`, `folder` or `hub` with a `revision`."""
    ingest: IngestSettings
    validation: Annotated[ValidateSettings, Field(alias="validate")] = ValidateSettings()
    deduplicate: DeduplicateSettings = DeduplicateSettings()
    split: SplitSettings = SplitSettings()
    page: PageSettings = PageSettings()
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    quantize: QuantizeSettings = QuantizeSettings()
    export: ExportSettings = ExportSettings()
    verify: VerifySettings = VerifySettings()
    gate: GateSettings = GateSettings()
    promote: PromoteSettings = PromoteSettings()
    nightly: NightlySettings = NightlySettings()


def load(path: Path, overrides: Sequence[str] = ()) -> PipelineConfig:
    """Read one YAML file, apply `a.b=c` overrides and check it all.

    Raises:
        ConfigError: every fault at once, each as `file:line  setting: what is wrong; the way out`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1)
        hint = f"; did you mean `{path.parent / near[0]}`?" if near else ""
        raise ConfigError(f"{path}: no such file{hint}") from None
    values, lines, faults = parse(text)
    if not faults:
        faults = [*override(values, lines, overrides), *check_shape(values)]
    if not faults:
        try:
            config = PipelineConfig.model_validate(values)
        except ValidationError as error:
            faults = explain(error)
        else:
            faults = gate_settings.check(config.gate, config.evaluate)
            if not faults:
                return config
    raise ConfigError("\n".join(f"{path}:{_line(place, lines)}  {message}" for place, message in faults))


def parse(text: str) -> tuple[dict[str, Any], dict[Place, int], list[tuple[Place, str]]]:
    """Read YAML into plain values, the line of every setting (from 1), and its faults of form."""
    lines: dict[Place, int] = {(): 1}
    faults: list[tuple[Place, str]] = []
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        lines[()] = error.problem_mark.line + 1 if error.problem_mark else 1
        return {}, lines, [((), f"not YAML: {error.problem}")]
    except (yaml.YAMLError, ValueError) as error:
        return {}, lines, [((), f"not YAML: {error}")]
    if node is not None:
        _walk(node, (), lines, faults)
    return (values if isinstance(values, dict) else {}), lines, faults


def _walk(node: yaml.Node, place: Place, lines: dict[Place, int], faults: list[tuple[Place, str]]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            if inner in lines:
                faults.append((inner, f"{_dotted(inner)}: set twice (first in line {lines[inner]})"))
            lines[inner] = key.start_mark.line + 1
            _walk(value, inner, lines, faults)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*place, index)] = value.start_mark.line + 1
            _walk(value, (*place, index), lines, faults)


def override(values: dict[str, Any], lines: dict[Place, int], overrides: Iterable[str]) -> list[tuple[Place, str]]:
    """Set `a.b=c` in `values`, where c is read as YAML; return what could not be set."""
    faults: list[tuple[Place, str]] = []
    for text in overrides:
        name, equals, value = text.partition("=")
        *parents, last = name.split(".")
        inner = values
        for part in parents:
            inner = inner.setdefault(part, {}) if isinstance(inner, dict) else {}
        if not equals or not last or not isinstance(inner, dict):
            faults.append(((), f"--set {text}: the form is --set section.setting=value"))
            continue
        try:
            inner[last] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            problem = getattr(error, "problem", None) or error
            faults.append(((), f"--set {text}: the value is not YAML: {problem}"))
            continue
        lines[tuple(name.split("."))] = 0
    return faults


def check_shape(values: dict[str, Any]) -> list[tuple[Place, str]]:
    """Say that a file is empty, where pydantic would list every missing section."""
    return [] if values else [((), "empty: start from pipeline_configs/quickstart.yaml")]


def explain(error: ValidationError) -> list[tuple[Place, str]]:
    """Turn pydantic's errors into (place, message) with near-miss suggestions."""
    found: list[tuple[Place, str]] = []
    for fault in error.errors():
        place = _settings_place(fault["loc"])
        name = _dotted(place)
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = f"no such setting{_near(str(place[-1]), _names(place[:-1]))}"
        elif fault["type"] == "missing":
            message = "is missing; it has no default"
        elif "input" in fault and isinstance(fault["input"], str | int | float):
            message = f"{message[0].lower()}{message[1:]} (it is {fault['input']!r})"
        found.append((place, f"{name}: {message}" if name else message))
    return list(dict.fromkeys(found))


def _settings_place(location: tuple[int | str, ...]) -> Place:
    """Drop the tags of unions from pydantic's location, so that it names the setting as written in the YAML."""
    place: list[str | int] = []
    kinds: list[Any] = [PipelineConfig]
    for part in location:
        sections = [k for k in kinds if isinstance(k, type) and issubclass(k, Section)]
        fields = {alias: f for k in sections for n, f in k.model_fields.items() for alias in (n, f.alias or n)}
        if part in fields:
            kinds = _leaves(fields[str(part)].annotation)
            place.append(fields[str(part)].alias or part)
        elif isinstance(part, int) or not _is_tag(part, sections):
            place.append(part)
            kinds = kinds if isinstance(part, int) else []
    return tuple(place)


def _is_tag(part: str, sections: list[type[Section]]) -> bool:
    tags = {v for k in sections if "kind" in k.model_fields for v in typing.get_args(k.model_fields["kind"].annotation)}
    return part in tags or part in {k.__name__ for k in sections} or part.startswith("function-")


def _leaves(annotation: Any) -> list[Any]:
    """List the classes in an annotation: members of unions, items of lists."""
    if isinstance(annotation, typing.TypeAliasType) if hasattr(typing, "TypeAliasType") else False:
        return _leaves(annotation.__value__)
    origin = typing.get_origin(annotation)
    if origin is None:
        return [annotation]
    if origin is Annotated or origin in (list, tuple) or origin in (typing.Union, types.UnionType):
        return [leaf for inner in typing.get_args(annotation) for leaf in _leaves(inner)]
    return []


def _names(place: Place) -> list[str]:
    """List the settings that a section knows, by their names in the YAML."""
    kinds: list[Any] = [PipelineConfig]
    for part in place:
        if isinstance(part, int):
            continue
        sections = [k for k in kinds if isinstance(k, type) and issubclass(k, Section)]
        kinds = [
            leaf
            for k in sections
            for n, f in k.model_fields.items()
            if part in (n, f.alias)
            for leaf in _leaves(f.annotation)
        ]
    sections = [k for k in kinds if isinstance(k, type) and issubclass(k, Section)]
    return [f.alias or n for k in sections for n, f in k.model_fields.items()]


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean `{near[0]}`?" if near else f"; known here: {', '.join(sorted(set(known)))}"


def _dotted(place: Place) -> str:
    return ".".join(str(part) for part in place)


def _line(place: Place, lines: dict[Place, int]) -> str:
    """Give the line of a setting or of the nearest section that holds it; `--set` for overrides."""
    for length in range(len(place), -1, -1):
        if (line := lines.get(place[:length])) is not None:
            return str(line) if line else "--set"
    return "1"


def json_schema() -> dict[str, Any]:
    """Give the JSON schema of a configuration file, for editors."""
    return PipelineConfig.model_json_schema(by_alias=True)
