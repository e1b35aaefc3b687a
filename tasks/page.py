"""Page: one page for a person says what became of every row, from the raw files to the three sides."""

import base64
import functools
import shutil
from pathlib import Path

import msgspec
import orjson

from tasks.ingest import file_names
from tasks.run import Run
from tasks.stage import stage
from tunemill.artifacts import Artifact, CleanDataset, DataPage, RawDataset, Splits, Tokenizer, ValidDataset
from tunemill.errors import StoreError
from tunemill.home import Home
from tunemill.quality import page as pages
from tunemill.quality.balance import Tally
from tunemill.quality.funnel import SIDES, Funnel
from tunemill.quality.gathered import files_of, funnel_of
from tunemill.quality.page_report import write_page
from tunemill.quality.page_rows import Contradicted, lines, read_side, rows_at
from tunemill.quality.page_settings import PageSettings, Task
from tunemill.quality.rendered import Renderer
from tunemill.rows import Duplicate
from tunemill.store import Store, Work


@stage(makes=DataPage, version=4, engines=("matplotlib", "tokenizers"))
def page(
    work: Work,
    raw: RawDataset,
    valid: ValidDataset,
    tokenizer: Tokenizer,
    clean: CleanDataset,
    splits: Splits,
    settings: PageSettings,
    task: Task,
) -> DataPage:
    """Count what went on and what was left out, look at what will train, and write both down."""
    datasets = (raw, valid, clean, splits)
    folders = {each.stage: work.open(each) for each in datasets}
    dropped = list(lines(folders["deduplicate"] / "duplicates.jsonl", Duplicate))
    answers = list(lines(folders["deduplicate"] / "contradictions.jsonl", Contradicted))
    certificate = orjson.loads((folders["split"] / "certificate.json").read_bytes())
    tally, model = Tally(settings.balance.field), Renderer(work.open(tokenizer))
    sides = {side: read_side(folders["split"] / side, side, tally) for side in SIDES}
    sample = sides["train"].sample
    lengths = [model.lengths(row) for row in sample]
    facts = pages.Facts(
        funnel=funnel_of(folders, raw.counts["rows"], sides, dropped, answers),
        files=files_of(folders, sides, dropped, answers),
        copies=pages.copies(dropped),
        contradictions=pages.contradictions(answers),
        balance=tally.labels(),
        largest_group=certificate.get("largest_group", 0),
        sampled=len(sample),
        tokens=[tokens for tokens, _ in lengths],
        trained=[trained for _, trained in lengths],
    )
    _require_all(facts.funnel)
    facts = msgspec.structs.replace(facts, warnings=pages.warnings(facts, settings.balance))
    (work.folder / "page.json").write_bytes(orjson.dumps(msgspec.to_builtins(facts), option=orjson.OPT_INDENT_2))
    shutil.copyfile(folders["validate"] / "report" / "tokens.png", work.report / "tokens.png")
    shown = pages.Page(
        facts=facts,
        settings=settings,
        task=task,
        certificate=certificate,
        contradictions=pages.answers(answers, settings.examples),
        pairs=pages.pairs(dropped, settings.examples, functools.partial(rows_at, folders["validate"] / "rows")),
        examples=[model.render(row) for row in pages.at_distances(sample, settings.examples)],
        names=file_names(),
        links={"tokens.png": "tokens.png", **_links(datasets)},
    )
    write_page(shown, work.report)
    return work.seal(DataPage, warnings=len(facts.warnings))


def _require_all(funnel: Funnel) -> None:
    if funnel.unaccounted:
        raise StoreError(f"page: {funnel.unaccounted:,} rows are on no side and in no list; this is a bug, report it")


def _links(datasets: tuple[Artifact, ...]) -> dict[str, str]:
    """Name the files that hold all of what the page shows some of, and where they lie as seen from report/."""
    raw, valid, clean, splits = (f"../../../{each.stage}/{each.key}" for each in datasets)
    return {
        "ingest/rejected.jsonl": f"{raw}/rejected.jsonl",
        "validate/rejected.jsonl": f"{valid}/rejected.jsonl",
        "duplicates.jsonl": f"{clean}/duplicates.jsonl",
        "contradictions.jsonl": f"{clean}/contradictions.jsonl",
        "certificate.json": f"{splits}/certificate.json",
    }


def show(made: DataPage) -> DataPage:
    """Give the run the page's path, its warnings, held or made, and Prefect the page if it was made; give it on."""
    run, folder = Run.current(), Store.at(Home.find().store).open(made)
    run.page = str(folder / "report" / "page.md")
    for text in orjson.loads((folder / "page.json").read_bytes())["warnings"]:
        run.warn(text)
    if any(record.name == made.stage for record in run.made):
        _show_in_prefect(Path(run.page))
    return made


def inlined(page: Path) -> str:
    """Give a page as one text: its pictures are data: URIs, so that it can be shown anywhere."""

    text = page.read_text(encoding="utf-8")
    for picture in sorted(page.parent.glob("*.png")):
        data = base64.b64encode(picture.read_bytes()).decode()
        # Once: a row that is shown further below may hold the same words.
        text = text.replace(f"]({picture.name})", f"](data:image/png;base64,{data})", 1)
    return text


def _show_in_prefect(page: Path) -> None:
    from prefect.artifacts import create_markdown_artifact
    from prefect.context import get_run_context
    from prefect.exceptions import MissingContextError

    try:
        get_run_context()
    except MissingContextError:
        return
    create_markdown_artifact(
        inlined(page), key="data", description=f"{Run.current().config.get('name', '')}: data page"
    )
