"""The command line: the one door.

Exit status: 0 done, 1 a bug or a fault of the machine, 2 the configuration, 3 the data or the model, 4 the gate.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tunemill import cli_machine
from tunemill.errors import ConfigError, TunemillError
from tunemill.home import PROJECT, Home
from tunemill.terminal import Config, Json, Overrides, print_json, print_value, run_flow

if TYPE_CHECKING:
    from tunemill.config import PipelineConfig

app = typer.Typer(
    help="Tunemill: raw logs in, a verified model out.",
    epilog="Start with: tunemill plan pipeline_configs/quickstart.yaml. "
    "Exit status: 0 done, 2 configuration, 3 data or model, 4 the gate, 1 a bug or a fault of the machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.command(epilog="Example: tunemill run pipeline_configs/quickstart.yaml --set train.epochs=2")
def run(config: Config, set_: Overrides = None, json: Json = False) -> None:
    """Go from raw files to verified files; what is held is not made again."""
    summary = run_flow(config, set_, "finetune", conclude=not json)
    if json:
        print_json(summary)
    if summary["gate"] != "PROMOTE":
        raise SystemExit(4)


@app.command(epilog="Example: tunemill plan pipeline_configs/quickstart.yaml --set train.method.rank=8")
def plan(config: Config, set_: Overrides = None, json: Json = False) -> None:
    """Check a configuration and say which stages are held, run, or depend on another."""
    from tasks.plan import planned, shown
    from tunemill.config import load

    steps = planned(load(config, set_ or ()))
    if json:
        print_json({"valid": True, "stages": [step.model_dump() for step in steps]})
    else:
        typer.echo(shown(steps))


@app.command(
    epilog="Examples: tunemill preview examples/support_desk --config pipeline_configs/quickstart.yaml; "
    "tunemill preview 'logs/**/*.jsonl.gz' --rows 2; "
    "tunemill preview tickets.csv --config c.yaml --set 'ingest.map={prompt: question, answer: reply}'"
)
def preview(
    path: Annotated[str, typer.Argument(help="A file, a folder or a glob, from here.")],
    config: Annotated[Path | None, typer.Option(help="Read, check and render as this configuration says.")] = None,
    set_: Overrides = None,
    rows: Annotated[int, typer.Option(help="How many rows to show, by turns from each file.", min=0)] = 5,
    fetch: Annotated[bool, typer.Option("--fetch", help="Get the model's tokenizer if it is not held.")] = False,
    json: Json = False,
) -> None:
    """Show what files hold, rows as the model will see them, and what would be rejected.

    Only the first records of each file are read, so a file of any size takes
    seconds. Nothing is downloaded without --fetch.
    """
    from rich.console import Console

    from tasks.preview import preview as look
    from tasks.preview_text import tell

    given = _optional(config, set_)
    Home.find().enter()
    found = look(path, given, rows, fetch)
    if json:
        print_json(found)
    else:
        tell(found, Console(highlight=False, markup=False))


@app.command(
    epilog="Examples: tunemill replay mended.jsonl --config pipeline_configs/quickstart.yaml; "
    "tunemill replay mended.jsonl --into logs/mended.jsonl"
)
def replay(
    rejected: Annotated[Path, typer.Argument(help="A copy of a rejected.jsonl, in which you mended some lines.")],
    into: Annotated[
        Path | None, typer.Option(help="JSONL file to write; left out, one beside each source file.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Read and check as this configuration says.")] = None,
    set_: Overrides = None,
    json: Json = False,
) -> None:
    """Take mended records in again; those that are still bad are listed with their reason.

    Mend `text`, the record as it was read, or put the whole record as an
    object into `mended` beside it. Other lines may stay as they are:
    running it again adds nothing twice.
    """
    from tasks.replay import replay as take_in
    from tasks.replay import shown

    given = _optional(config, set_)
    Home.find().enter()
    print_value(json, take_in(rejected, into, given), shown)


@app.command(epilog="Example: tunemill show 3dc33944806d")
def show(key: Annotated[str, typer.Argument(help="The first digits of a key.")], json: Json = False) -> None:
    """Show a sealed artifact: what it was made from, its files and its counts."""
    from tunemill.store import Store

    store = Store(Home.find().store)
    found = store.find(key)
    if len(found) != 1:
        names = ", ".join(f"{m.stage} {m.key[:12]}" for m in found[:5])
        which = f" ({names}); give more digits" if found else f" in {store.root}; `tunemill plan CONFIG` lists the keys"
        raise ConfigError(f"{len(found)} artifacts have a key that begins with {key!r}{which}")
    facts: dict[str, Any] = {**found[0].model_dump(), "folder": str(store.folder(found[0].stage, found[0].key))}
    if json:
        print_json(facts)
        return
    for name in ("stage", "key", "digest", "folder", "counts", "made_from", "parts"):
        typer.echo(f"{name:10} {facts[name]}")
    for name, file in found[0].files.items():
        typer.echo(f"  {file.size:>14,}  {file.sha256[:12]}  {name}")


@app.command(epilog="Example: tunemill gate last --set 'gate.rules=[{metric: field_accuracy, at_least: 0.8}]'")
def gate(
    run: Annotated[str, typer.Argument(help="Id of a run, its first characters, or `last`; runs/ holds them.")],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Judge by other rules: gate.rules=[…].")] = None,
    json: Json = False,
) -> None:
    """Judge a run again from its stored rows, by its own rules or others (--set)."""
    from tasks.judge import judged, text_of

    verdict = judged(run, set_ or ())
    print_value(json, verdict, text_of)
    if verdict["verdict"] != "PROMOTE":
        raise SystemExit(4)


@app.command(epilog="Example: tunemill promote a81d5bc084ba --by Ada --reason 'answers are short and right'")
def promote(
    key: Annotated[str, typer.Argument(help="A key that the version was made from, or NAME/NUMBER.")],
    by: Annotated[str, typer.Option(help="Who decides.")],
    reason: Annotated[str, typer.Option(help="Why; both stand on the version's page.")],
    json: Json = False,
) -> None:
    """Make a verified version the champion."""
    from tasks.champion import promote_by_hand, shown

    print_value(json, promote_by_hand(key, by, reason), shown)


@app.command(epilog="Example: tunemill rollback quickstart --by Ada --reason 'customers complain'")
def rollback(
    name: Annotated[str, typer.Argument(help="Name of the registered model: `name` in the configuration.")],
    by: Annotated[str, typer.Option(help="Who decides.")],
    reason: Annotated[str, typer.Option(help="Why; both stand on the version's page.")],
    json: Json = False,
) -> None:
    """Give `champion` back to the version that had it before."""
    from tasks.champion import rollback as roll_back
    from tasks.champion import shown

    print_value(json, roll_back(name, by, reason), shown)


@app.command(
    epilog="Examples: tunemill trace q4_k_m.gguf; tunemill trace tickets.csv:17; tunemill trace 3dc33944806d --json"
)
def trace(
    what: Annotated[
        str, typer.Argument(help="A file that ships, a key, a row's id, a source file, or FILE:LINE of one.")
    ],
    json: Json = False,
) -> None:
    """Follow a file to its log lines, or a log line to every model that saw it."""
    from tasks.trace import trace as follow
    from tasks.trace_text import shown

    print_value(json, follow(what), shown)


@app.command(epilog="Example: tunemill chat a81d5bc084ba --prompt 'Where is my parcel?'")
def chat(
    key: Annotated[str, typer.Argument(help="A key of a run that exported a GGUF.")],
    prompt: Annotated[list[str] | None, typer.Option(help="Ask this and end. Repeatable.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt; left out, that of evaluate.system.")] = None,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.", min=1)] = 128,
    json: Json = False,
) -> None:
    """Ask base and tuned model the same, side by side, through llama.cpp."""
    from rich.console import Console

    from tasks.chat import Chat, talk

    Home.find().enter()
    console = Console(stderr=json, highlight=False)
    said = talk(Chat(key, system, max_new_tokens), console, prompt or [])
    if json:
        print_json({"answers": said})


@app.command()
def doctor(json: Json = False) -> None:
    """Say what this machine has, what is missing (exit status 1), and how to get it."""
    from tasks.doctor import examine, shown

    findings = examine()
    if json:
        print_json({"findings": [finding.model_dump() for finding in findings]})
    else:
        typer.echo(shown(findings))
    if any(finding.state == "missing" for finding in findings):
        raise SystemExit(1)


@app.command()
def schema(json: Json = False) -> None:
    """Write pipeline_configs/schema.json, by which editors complete and check."""
    from tunemill.config import json_schema

    path = PROJECT / "pipeline_configs" / "schema.json"
    path.write_text(schema_text(json_schema()), encoding="utf-8")
    if json:
        print_json({"schema": str(path)})
    else:
        typer.echo(f"wrote {path.relative_to(PROJECT)}")


def schema_text(value: dict[str, Any]) -> str:
    """Give a JSON schema as the bytes that are committed."""
    import json

    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _optional(config: Path | None, set_: list[str] | None) -> "PipelineConfig | None":
    from tunemill.config import load

    if set_ and not config:
        raise ConfigError("--set changes a setting of a configuration; name that too: --config CONFIG")
    return load(config, set_ or ()) if config else None


for each, example in cli_machine.COMMANDS.items():
    app.command(epilog=example)(each)


def main() -> None:
    """Run the command line; our own errors print without a traceback and give their exit status."""
    if str(PROJECT) not in sys.path:
        sys.path.insert(0, str(PROJECT))
    try:
        app()
    except TunemillError as error:
        typer.echo(str(error), err=True)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
