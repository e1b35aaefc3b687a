"""The data page as a stage of the chain: from what four stages have sealed."""

from pathlib import Path

import orjson
import pytest

from tasks.page import inlined, page, show
from tasks.run import Listener, listening, pipeline_run
from tests.stages.conftest import Chain
from tunemill.artifacts import CleanDataset, DataPage, RawDataset, Tokenizer, ValidDataset
from tunemill.config import load
from tunemill.errors import StoreError
from tunemill.home import PROJECT, Home
from tunemill.quality.page_settings import PageSettings, Task
from tunemill.store import Store


def made(store: Store, chain: Chain, **settings: object) -> DataPage:
    kinds = {kind.stage: kind for kind in (RawDataset, ValidDataset, Tokenizer, CleanDataset)}
    given = {stage: store.manifests(stage)[-1].artifact(kind) for stage, kind in kinds.items()}
    data = (given[name] for name in ("ingest", "validate", "tokenizer", "deduplicate"))
    return page.run(store, *data, chain.splits, PageSettings(**settings), Task(type="style"))  # type: ignore[arg-type]


@pytest.fixture
def store(copied: Home) -> Store:
    return Store.at(copied.store)


def test_the_69_records_of_the_chain_are_followed_to_their_sides(store: Store, chain: Chain) -> None:
    found = orjson.loads((store.open(made(store, chain)) / "page.json").read_bytes())
    steps = {step["stage"]: (step["came"], step["left"]) for step in found["funnel"]["steps"]}
    assert steps == {"ingest": (69, 68), "validate": (68, 67), "deduplicate": (67, 65), "split": (65, 65)}
    assert found["funnel"]["sides"].items() <= chain.splits.counts.items()
    assert [(loss["stage"], loss["reason"], loss["example"]["line"]) for loss in found["funnel"]["losses"]] == [
        ("ingest", "broken JSON", 3),
        ("validate", "`answer` shorter than 50 characters", 4),
        ("deduplicate", "exact duplicate of an older row", 5),
        ("deduplicate", "near-duplicate of an older row", 6),
    ]
    assert sorted(counts["read"] for counts in found["files"].values()) == [3, 66]


def test_every_link_and_picture_of_the_page_leads_to_a_file(store: Store, chain: Chain) -> None:
    report = store.open(made(store, chain)) / "report"
    text = (report / "page.md").read_text()
    links = [part.partition(")")[0] for part in text.split("](")[1:]]
    assert {Path(link).name for link in links} >= {"tokens.png", "duplicates.jsonl", "certificate.json"}
    assert all((report / link).is_file() for link in links)


def test_trained_text_stands_between_its_marks(store: Store, chain: Chain) -> None:
    text = (store.open(made(store, chain, examples=1)) / "report" / "page.md").read_text()
    (example,) = text.partition("## As the model will see it")[2].split("```text\n")[1:]
    before, _, after = example.partition("⟦")
    assert "Where is " in before and "It is " not in before
    assert after.partition("⟧")[0].startswith("It is ")


def test_a_warning_is_given_by_a_held_page_too(store: Store, chain: Chain) -> None:
    heard: list[str] = []

    class Ear(Listener):
        def warn(self, message: str) -> None:
            heard.append(message)

    artifact = made(store, chain)
    for _ in range(2):
        with listening(Ear()), pipeline_run(load(PROJECT / "pipeline_configs" / "quickstart.yaml")) as run:
            show(artifact)
    assert run.page == str(store.folder("page", artifact.key) / "report" / "page.md")
    assert len(heard) == 2
    assert heard[0] == heard[1] == run.warnings[0]
    assert heard[0].startswith("deduplicate: 1 prompt has more than one answer, and no rule says which stays")


def test_an_inlined_page_needs_no_other_file(store: Store, chain: Chain) -> None:
    text = inlined(store.open(made(store, chain)) / "report" / "page.md")
    assert ".png)" not in text
    assert text.count("](data:image/png;base64,") >= 3


def test_other_settings_make_another_page_of_the_same_facts(store: Store, chain: Chain) -> None:
    one, other = made(store, chain), made(store, chain, examples=1)
    assert one.key != other.key
    assert one.digest == other.digest


def test_a_page_over_lists_that_miss_a_row_is_refused(store: Store, chain: Chain) -> None:
    folder = store.folder("deduplicate", store.manifests("deduplicate")[-1].key)
    listed = folder / "duplicates.jsonl"
    store.open(store.manifests("deduplicate")[-1].artifact(CleanDataset))  # checked once, then altered
    listed.write_bytes(listed.read_bytes().partition(b"\n")[2])
    with pytest.raises(StoreError, match="1 rows are on no side and in no list"):
        made(store, chain)
