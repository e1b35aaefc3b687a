"""From a file to its log lines and from a log line to its models, on a store that holds the whole chain."""

import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.deduplicate import deduplicate
from tasks.trace import trace
from tasks.trace_text import shown
from tests.stages.conftest import Chain, letter
from tunemill import rows, segments
from tunemill.artifacts import ValidDataset
from tunemill.dedup.settings import DeduplicateSettings
from tunemill.errors import ConfigError, ModelError
from tunemill.exporting import gguf
from tunemill.home import Home
from tunemill.store import Store

STORY = ["ingest", "validate", "deduplicate", "split", "train", "export"]


def steps(found: dict[str, Any], **of: Any) -> list[dict[str, Any]]:
    """List the steps of all records, those before what follows them."""

    def every(path: list[dict[str, Any]]) -> Any:
        for step in path:
            yield step
            yield from every(step["next"])

    return [s for r in found["records"] for s in every(r["path"]) if all(s[name] == v for name, v in of.items())]


def outcomes(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Give the story without what it says twice, since two adapters were trained."""
    return list(dict.fromkeys((step["stage"], step["outcome"]) for step in steps(found)))


def side(chain: Chain, name: str) -> list[rows.Row]:
    return segments.read(chain.store.open(chain.splits) / name)


@pytest.mark.parametrize(
    "name",
    [
        "gguf/q8_0.gguf",
        "merged/model-00002-of-00002.safetensors",
        "adapter/adapter_model.safetensors",
        "gguf/Modelfile",
        "merged/tokenizer.json",
        "lineage.json",
        "SHA256SUMS",
        "manifest.json",
        "gguf",
        ".",
    ],
)
def test_every_file_and_folder_of_an_export_leads_to_its_sources_and_its_run(chain: Chain, name: str) -> None:
    found = trace(str(chain.store.open(chain.exported) / name))
    assert (found["stage"], found["key"], found["known_by"]) == ("export", chain.exported.key, "place")
    assert [link["stage"] for link in found["chain"]][:5] == ["ingest", "tokenizer", "validate", "deduplicate", "split"]
    assert [run["run"] for run in found["runs"] if run["made"]] == [chain.run]
    assert found["datasets"] == {"train": 33, "validation": 13, "test": 19}
    assert [(Path(s["file"]).name, s["train"] + s["validation"] + s["test"]) for s in found["sources"]] == [
        ("chats.json", 3),
        ("letters.jsonl", 62),
    ]
    assert len(found["rows"]) == 65


def test_a_gguf_that_was_moved_is_known_by_the_lineage_that_it_carries(chain: Chain, tmp_path: Path) -> None:
    moved = Path(shutil.copy(chain.store.open(chain.exported) / "gguf" / "q8_0.gguf", tmp_path / "ours.gguf"))
    found = trace(str(moved))
    assert (found["key"], found["known_by"], found["altered"]) == (chain.exported.key, "lineage", False)
    assert "as its lineage says" in shown(found)


def test_a_file_whose_size_was_never_sealed_is_called_altered(chain: Chain, tmp_path: Path) -> None:
    original = chain.store.open(chain.exported) / "gguf" / "q8_0.gguf"
    gguf.stamp(original, tmp_path / "named.gguf", gguf.facts(original), name="another name")
    found = trace(str(tmp_path / "named.gguf"))
    assert (found["key"], found["altered"]) == (chain.exported.key, True)
    assert "ALTERED" in shown(found)


def test_a_file_that_carries_nothing_is_known_by_its_bytes(chain: Chain, tmp_path: Path) -> None:
    stolen = shutil.copy(chain.store.folder("train", chain.adapters[1].key) / "training.json", tmp_path / "a")
    found = trace(str(stolen))
    assert (found["stage"], found["key"], found["known_by"]) == ("train", chain.adapters[1].key, "sha256")


def test_a_damaged_gguf_is_told_as_such(chain: Chain, tmp_path: Path) -> None:
    data = (chain.store.open(chain.exported) / "gguf" / "q8_0.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[:-9])
    with pytest.raises(ModelError, match=r"cut\.gguf is not whole"):
        trace(str(tmp_path / "cut.gguf"))


def test_every_stage_has_a_key_that_leads_up_and_down(chain: Chain) -> None:
    for stage in ("ingest", "tokenizer", "validate", "deduplicate", "split", "model", "evaluate", "merge", "quantize"):
        for manifest in chain.store.manifests(stage):
            found = trace(manifest.key[:8])
            assert (found["stage"], found["key"], found["known_by"]) == (stage, manifest.key, "key")
            assert {"stage": "export", "key": chain.exported.key} in found["led_to"], stage
            assert found["chain"][-1]["key"] == manifest.key
    assert trace(chain.adapters[1].key)["led_to"] == []
    assert [link["stage"] for link in trace(chain.exported.key)["led_to"]] == ["verify", "gate"]
    assert trace(chain.decision.key)["led_to"] == []


def test_an_ingest_whose_rows_were_held_for_it_leads_to_the_same_models(chain: Chain) -> None:
    """What was made from one ingest names only that one; the other read the same rows by another setting."""
    one, other = (trace(manifest.key) for manifest in chain.store.manifests("ingest"))
    assert one["key"] != other["key"]
    assert one["digest"] == other["digest"]
    assert one["led_to"] == other["led_to"] != []
    assert one["datasets"] == {"rows": 68}


def test_a_row_is_told_from_its_line_to_the_versions_it_is_in(chain: Chain) -> None:
    row = next(r for r in side(chain, "train") if r.line > 6 and r.messages[0].content == letter(r.line)["prompt"])
    found = trace(f"letters.jsonl:{row.line}")
    assert outcomes(found) == list(
        zip(STORY, ["read", "kept", "kept", "train", "trained", "shipped"], strict=True),
    )
    (ingested,) = steps(found, stage="ingest")
    assert set(ingested["keys"]) == {manifest.key for manifest in chain.store.manifests("ingest")}
    assert set(found["trained"]) == {adapter.key for adapter in chain.adapters}
    (shipped,) = steps(found, stage="export")
    assert (shipped["keys"], shipped["versions"]) == (
        [chain.exported.key],
        [{"name": "quickstart", "version": 7, "gate": "PROMOTE"}],
    )
    assert f"export       {chain.exported.key[:12]}  quickstart version 7, gate PROMOTE" in shown(found)


def test_what_follows_each_of_two_adapters_stands_below_it(chain: Chain) -> None:
    row = next(r for r in side(chain, "train") if r.line > 6)
    text = shown(trace(f"letters.jsonl:{row.line}"))
    assert f"\n  train        {chain.adapters[0].key[:12]}  trained on it\n    export" in text
    assert f"\n  train        {chain.adapters[1].key[:12]}  trained on it\n" in text
    assert text.count("export  ") == 1


@pytest.mark.parametrize("name", ["validation", "test"])
def test_a_row_of_another_side_trained_no_adapter(chain: Chain, name: str) -> None:
    row = next(r for r in side(chain, name) if r.line > 6)
    found = trace(f"letters.jsonl:{row.line}")
    assert [step["outcome"] for step in steps(found, stage="split")] == [name]
    assert {step["outcome"] for step in steps(found, stage="train")} == {"not trained"}
    assert found["trained"] == []
    assert shown(found).endswith("No adapter was trained on it.")


def test_a_line_that_ingest_rejected_ends_there_with_its_reason(chain: Chain) -> None:
    found = trace("letters.jsonl:3")
    assert outcomes(found) == [("ingest", "rejected")]
    (step,) = steps(found)
    assert step["reason"] == "broken JSON"
    assert f"rejected: broken JSON: {step['detail']}" in shown(found)


def test_a_line_that_validate_rejected_was_read_first(chain: Chain) -> None:
    found = trace("letters.jsonl:4")
    assert outcomes(found) == [("ingest", "read"), ("validate", "rejected")]
    assert len(found["records"]) == 1
    lines = shown(found).splitlines()
    assert lines[1].startswith("  ingest ") and "read as row" in lines[1]
    assert lines[2].endswith("rejected: `answer` shorter than 50 characters (answer_characters: 3)")
    assert lines[3:] == ["No adapter was trained on it."]


def test_a_duplicate_names_the_row_that_stays_and_goes_on_with_it(chain: Chain) -> None:
    found = trace("letters.jsonl:5")
    assert outcomes(found)[:3] == [("ingest", "read"), ("validate", "kept"), ("deduplicate", "duplicate")]
    (step,) = steps(found, stage="deduplicate")
    assert (step["kind"], Path(step["kept"]["file"]).name, step["kept"]["line"]) == ("exact", "letters.jsonl", 1)
    kept = trace("letters.jsonl:1")
    (stays,) = steps(kept, stage="deduplicate")
    assert (stays["outcome"], [(g["line"], g["kind"]) for g in stays["stands_for"]]) == ("kept", [(5, "exact")])
    assert steps(found, stage="split") == steps(kept, stage="split") != []


def test_a_near_duplicate_says_how_near_it_is(chain: Chain) -> None:
    (step,) = steps(trace("letters.jsonl:6"), stage="deduplicate")
    assert (step["kind"], step["kept"]["line"]) == ("near", 2)
    assert 0.7 <= step["similarity"] < 1
    assert f"near duplicate, similarity {step['similarity']:g}, of " in shown(trace("letters.jsonl:6"))


def test_a_row_whose_prompt_has_a_newer_answer_says_which_row_stays(copied: Home) -> None:
    store = Store(copied.store)
    (valid,) = store.manifests("validate")
    deduplicate.run(store, valid.artifact(ValidDataset), None, DeduplicateSettings(contradictions="newest"))
    found = trace("letters.jsonl:2")
    (step,) = steps(found, stage="deduplicate", outcome="contradiction")
    assert (step["kept"]["line"], step["next"]) == (6, [])
    told = shown(found)
    assert "dropped, its prompt has another answer: not the answer of the newest row (no row has a time" in told
    assert "letters.jsonl:6 stays" in told


def test_a_row_whose_white_space_was_tidied_is_found_by_either_of_its_ids(chain: Chain) -> None:
    found = trace("letters.jsonl:2")
    (read,), (kept,) = steps(found, stage="ingest"), steps(found, stage="validate")
    assert read["row_id"] != kept["row_id"]
    for row_id in (read["row_id"], kept["row_id"], kept["row_id"][:9]):
        assert trace(row_id)["records"] == found["records"]


def test_an_id_that_two_lines_share_tells_both(chain: Chain) -> None:
    row_id = steps(trace("letters.jsonl:1"), stage="ingest")[0]["row_id"]
    assert [record["line"] for record in trace(row_id)["records"]] == [1, 5]


def test_records_that_share_a_line_are_told_apart_by_their_ids(chain: Chain) -> None:
    whole = trace("chats.json:1")
    read = [step["row_id"] for step in steps(whole, stage="ingest")]
    assert len(set(read)) == 3
    one = trace(read[1])
    assert [step["row_id"] for step in steps(one, stage="ingest")] == [read[1]]
    assert one["records"][0]["path"] == [whole["records"][0]["path"][1]]


@pytest.mark.parametrize("wide", ["letters.jsonl", "copy/letters.jsonl"])
def test_a_source_is_known_by_every_name_that_its_bytes_had(chain: Chain, wide: str) -> None:
    place = chain.letters.parent / wide
    found = {tuple(r["names"]) for name in (wide, place) for r in trace(f"{name}:1")["records"]}
    assert found == {(str(chain.letters), str(chain.letters.parent / "copy" / "letters.jsonl"))}
    assert "(also " in shown(trace(f"{wide}:1"))


def test_a_copy_of_a_source_is_known_by_its_bytes(chain: Chain, tmp_path: Path) -> None:
    copy = shutil.copy(chain.letters, tmp_path / "copied.log")
    assert trace(f"{copy}:4")["records"] == trace("letters.jsonl:4")["records"]
    found = trace(str(copy))
    assert (found["stage"], [link["rows"] for link in found["files"][0]["read_by"]]) == ("source", [65, 65])


def test_a_source_file_tells_how_much_was_read_and_what_it_led_to(chain: Chain) -> None:
    for name in (str(chain.letters), "letters.jsonl"):
        (file,) = trace(name)["files"]
        assert [(link["rows"], link["rejected"]) for link in file["read_by"]] == [(65, 1), (65, 1)]
        assert {"stage": "train", "key": chain.adapters[0].key} in file["led_to"]
    assert "65 rows, 1 rejected" in shown(trace("letters.jsonl"))


@pytest.mark.parametrize("line", [67, 1000])
def test_a_line_without_a_record_names_the_record_before_it(chain: Chain, line: int) -> None:
    with pytest.raises(ConfigError, match=rf"no record begins in line {line:,}; the one before begins in line 66"):
        trace(f"letters.jsonl:{line}")


@pytest.mark.parametrize("what", ["", "nothing.jsonl:3", "abc", "f" * 32, "ffffff", "pipeline_configs/gone.yaml"])
def test_what_nobody_knows_is_an_error_that_names_the_state_folder(chain: Chain, what: str) -> None:
    with pytest.raises(ConfigError, match=str(chain.home.root)):
        trace(what)


def test_a_file_of_another_home_tells_what_it_says_of_itself(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = chain.store.open(chain.exported) / "gguf" / "q8_0.gguf"
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    with pytest.raises(ConfigError) as refused:
        trace(str(file))
    text = str(refused.value)
    assert f"names export {chain.exported.key[:12]}, which is not in {tmp_path / 'store'}" in text
    assert f"verdict {gguf.facts(file)['verdict']}, dataset {chain.splits.digest}, base packaged:smollm2" in text
    assert "Set TUNEMILL_HOME" in text
    for unknown in (chain.exported.key, "letters.jsonl:1", str(chain.letters)):
        with pytest.raises(ConfigError, match=str(tmp_path)):
            trace(unknown)


def test_a_foreign_file_is_an_error(chain: Chain) -> None:
    with pytest.raises(ConfigError, match=r"pyproject\.toml carries no lineage of Tunemill"):
        trace("pyproject.toml")


def test_digits_that_begin_a_key_and_a_row_id_are_ambiguous(chain: Chain, copied: Home) -> None:
    row_id = steps(trace("letters.jsonl:1"), stage="ingest")[0]["row_id"]
    twin = row_id[:10] + "0" * 22
    folder = copied.store / "tokenizer"
    manifest = orjson.loads((folder / chain.store.manifests("tokenizer")[0].key / "manifest.json").read_bytes())
    (folder / twin).mkdir()
    (folder / twin / "manifest.json").write_bytes(orjson.dumps(manifest | {"key": twin}))
    with pytest.raises(ConfigError) as refused:
        trace(row_id[:10])
    assert str(refused.value).splitlines() == [
        f"trace: 2 keys and row ids begin with '{row_id[:10]}'; give more digits",
        f"  tokenizer {twin}",
        f"  row {row_id}",
    ]
    assert trace(row_id)["stage"] == "row"
    assert trace(twin)["key"] == twin


def test_a_run_that_only_held_it_is_told_apart_from_the_one_that_made_it(chain: Chain, copied: Home) -> None:
    record = orjson.loads((copied.runs / f"{chain.run}.json").read_bytes())
    for number in (1, 2):
        stages = [{**stage, "cached": True} for stage in record["stages"]]
        later = {**record, "id": f"99991231T00000{number}-abcdef", "stages": stages, "gate": "REJECT"}
        (copied.runs / f"{later['id']}.json").write_bytes(orjson.dumps(later))
    found = trace(chain.exported.key)
    assert [(run["made"], run["gate"]) for run in found["runs"]] == [(True, "PROMOTE"), *[(False, "REJECT")] * 2]
    text = shown(found)
    assert f"run {chain.run} made it: evaluation better, gate PROMOTE, quickstart version 7" in text
    assert "run 99991231T000002-abcdef held it last, 2 runs in all: evaluation better, gate REJECT" in text
    assert "99991231T000001" not in text
