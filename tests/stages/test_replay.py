"""Rejected records that a person mended come in again, once, with their origin."""

import random
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.ingest import closed_files, ingest
from tasks.replay import Replayed, replay, shown
from tasks.replay_files import origins
from tasks.trace import trace
from tasks.trace_text import shown as told
from tunemill import segments
from tunemill.artifacts import RawDataset
from tunemill.config import PipelineConfig, load
from tunemill.errors import ConfigError
from tunemill.files import hash_file
from tunemill.home import PROJECT, Home
from tunemill.quality import expectations
from tunemill.rows import read_lines, write_lines
from tunemill.sources.settings import IngestSettings
from tunemill.store import Store

ANSWER = "Send us a photo of the box, and we pay within 14 days."
COLUMNS = "{prompt: question, answer: answer, user: customer, time: at}"

Listing = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of the sources, beside an empty home and a file of one good row: ingest wants one."""
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path / "home"))
    Home.find().enter()
    (tmp_path / "logs").mkdir()
    write_lines(tmp_path / "good.jsonl", [chat(ANSWER)])
    return tmp_path / "logs"


def configured(logs: Path, *overrides: str) -> PipelineConfig:
    every = (
        f"ingest.files=[{logs}, {logs.parent}/good.jsonl]",
        f"ingest.map={COLUMNS}",
        "ingest.max_rejected=1",
        "ingest.closed.seconds=0",
        *overrides,
    )
    return load(PROJECT / "pipeline_configs" / "quickstart.yaml", every)


def ingested(settings: IngestSettings) -> tuple[RawDataset, Listing]:
    """Run ingest; give its artifact and the records that it rejected."""
    store = Store(Home.find().store)
    raw = ingest.run(store, closed_files(settings), settings)
    return raw, list(read_lines(store.open(raw) / "rejected.jsonl"))


def rejected(config: PipelineConfig) -> Listing:
    return ingested(config.ingest)[1]


def rejected_by_rules(config: PipelineConfig) -> Listing:
    """Give what validate lists of the rows of ingest; it lists every row that breaks a rule on rows."""
    raw, _ = ingested(config.ingest)
    rows = segments.read(Store(Home.find().store).open(raw) / "rows")
    found = expectations.examine(rows, config.validation, lambda turns, tools: 10)
    return [{name: getattr(one, name) for name in one.__struct_fields__} for one in found.rejected]


def taken(logs: Path, listing: Listing, config: PipelineConfig | None = None, into: Path | None = None) -> Replayed:
    write_lines(logs.parent / "mended.jsonl", listing)
    return replay(logs.parent / "mended.jsonl", into, config)


def states(found: Replayed) -> list[tuple[str, str]]:
    return [(outcome.state, outcome.reason) for outcome in found.outcomes]


def chat(answer: str, **more: str) -> dict[str, Any]:
    turns = [{"role": "user", "content": "Is it wet?"}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **more}


def test_a_mended_record_lies_beside_its_source_and_is_read_by_the_next_run(logs: Path) -> None:
    config = configured(logs)
    write_lines(logs / "a.jsonl", [chat(ANSWER), chat(" ", conversation="c-1", user="u-1"), chat(ANSWER)])
    (one,) = rejected(config)
    one["text"] = one["text"].replace('"content":" "', f'"content":"{ANSWER}"')
    found = taken(logs, [one], config)
    assert states(found) == [("added", "")]
    assert found.outcomes[0].file == str(logs / "a.jsonl.replayed.jsonl")
    raw, still = ingested(config.ingest)
    assert (raw.counts["rows"], len(still)) == (4, 1)
    rows = segments.read(Store(Home.find().store).open(raw) / "rows")
    (mended,) = [row for row in rows if row.source == hash_file(logs / "a.jsonl.replayed.jsonl")]
    assert (mended.answer, mended.conversation) == (ANSWER, "c-1")


def test_a_trace_leads_from_the_mended_row_to_the_rejected_line_and_back(logs: Path) -> None:
    config = configured(logs)
    write_lines(logs / "a.jsonl", [chat(ANSWER), chat("")])
    (one,) = rejected(config)
    taken(logs, [{**one, "mended": chat("Yes.")}])
    rejected(config)
    old, new = f"{logs}/a.jsonl:2", f"{logs}/a.jsonl.replayed.jsonl:1"
    assert f"  mended as {new}\n" in told(trace(old))
    assert f"  mended from {old}, which was rejected\n" in told(trace(new))
    source = (hash_file(logs / "a.jsonl"), 2)
    assert origins() == {(hash_file(logs / "a.jsonl.replayed.jsonl"), 1): source}


def test_the_same_list_again_adds_nothing(logs: Path) -> None:
    write_lines(logs / "a.jsonl", [chat(""), chat(ANSWER), chat("")])
    one, two = rejected(configured(logs))
    listing = [{**one, "mended": chat("One.")}, two]
    assert states(taken(logs, listing)) == [("added", ""), ("unmended", "empty answer")]
    target = logs / "a.jsonl.replayed.jsonl"
    before, table = target.read_bytes(), (Home.find().root / "replayed.jsonl").read_bytes()
    assert states(taken(logs, listing)) == [("held", ""), ("unmended", "empty answer")]
    assert (target.read_bytes(), (Home.find().root / "replayed.jsonl").read_bytes()) == (before, table)


def test_a_second_mend_of_a_record_takes_the_place_of_the_first(logs: Path) -> None:
    write_lines(logs / "a.jsonl", [chat(""), chat("")])
    one, two = rejected(configured(logs))
    taken(logs, [{**one, "mended": chat("One.")}, {**two, "mended": chat("Two.")}])
    found = taken(logs, [{**one, "mended": chat("Better.")}, two])
    assert states(found) == [("changed", ""), ("unmended", "empty answer")]
    answers = [each["messages"][1]["content"] for each in read_lines(logs / "a.jsonl.replayed.jsonl")]
    assert answers == ["Better.", "Two."]
    digest, source = hash_file(logs / "a.jsonl.replayed.jsonl"), one["source"]
    assert {place: old for place, old in origins().items() if place[0] == digest} == {
        (digest, 1): (source, 1),
        (digest, 2): (source, 2),
    }


def test_a_csv_record_is_read_under_the_header_of_its_file(logs: Path) -> None:
    config = configured(logs)
    head = '\ufeff\n"question";customer;at;"answer"\r\n'
    (logs / "a.csv").write_text(f'{head}"Is it ""wet""?\nTell me.";u-1;2026-01-01;\r\n', newline="")
    (one,) = rejected(config)
    one["text"] += f'"{ANSWER}; ""soon"""'
    assert states(taken(logs, [one], config)) == [("added", "")]
    (record,) = read_lines(logs / "a.csv.replayed.jsonl")
    assert record == {
        "question": 'Is it "wet"?\nTell me.',
        "customer": "u-1",
        "at": "2026-01-01",
        "answer": f'{ANSWER}; "soon"',
        "replayed_from": {"source": hash_file(logs / "a.csv"), "line": 3},
    }


@pytest.mark.parametrize(
    ("tail", "reason"),
    [(',"open', "unclosed quote"), (",a,b", "too many columns"), (",a\nx,y,z,w", "broken CSV"), (", ", "empty answer")],
)
def test_a_csv_record_that_is_still_bad_stays_out_with_its_reason(logs: Path, tail: str, reason: str) -> None:
    config = configured(logs)
    (logs / "a.csv").write_text("question,customer,at,answer\nIs it wet?,u-1,2026-01-01\n")
    (one,) = rejected(config)
    assert one["reason"] == "too few columns"
    one["text"] += tail
    assert states(taken(logs, [one], config)) == [("out", reason)]
    assert not (logs / "a.csv.replayed.jsonl").exists()


def test_a_text_that_the_list_holds_in_part_is_refused_and_a_whole_object_is_taken(logs: Path) -> None:
    write_lines(logs / "a.jsonl", [{**chat(ANSWER * 100), "tools": ["f"]}])
    (one,) = rejected(configured(logs))
    one["text"] = one["text"][:1_900] + '"}]}'
    found = taken(logs, [one])
    assert states(found) == [("out", "text cut short")]
    assert "mend the source file itself, or give the whole record as an object in `mended`" in shown(found)
    assert states(taken(logs, [{**one, "mended": chat(ANSWER * 100)}])) == [("added", "")]


def test_a_row_that_a_rule_rejected_keeps_its_conversation_user_and_time(logs: Path) -> None:
    config = configured(logs)
    (logs / "a.csv").write_text("question,customer,at,answer,session_id\nIs it wet?,u-1,2026-01-01,Yes.,s-1\n")
    (one,) = rejected_by_rules(config)
    one["text"] = one["text"].replace("Yes.", ANSWER)
    assert states(taken(logs, [one], config)) == [("added", "")]
    (record,) = read_lines(logs / "a.csv.replayed.jsonl")
    assert (record["customer"], record["at"], record["conversation"]) == ("u-1", "2026-01-01", "s-1")
    raw, _ = ingested(config.ingest)
    rows = segments.read(Store(Home.find().store).open(raw) / "rows")
    assert [(row.user, row.time, row.conversation) for row in rows if row.user] == [("u-1", "2026-01-01", "s-1")] * 2


def test_a_row_that_a_rule_rejected_is_asked_again_by_the_rules(logs: Path) -> None:
    config = configured(logs)
    write_lines(logs / "a.jsonl", [chat("Yes.")])
    (one,) = rejected_by_rules(config)
    one["text"] = one["text"].replace("Yes.", "Yes, yes.")
    assert states(taken(logs, [one], config)) == [("out", "`answer` shorter than 50 characters")]
    found = taken(logs, [one])
    assert states(found) == [("out", "`answer` shorter than 50 characters")]
    assert "name that, so that it is asked: --config CONFIG" in shown(found)


def test_an_object_that_leaves_its_ids_out_gets_those_of_the_text(logs: Path) -> None:
    write_lines(logs / "a.jsonl", [{"messages": [], "session_id": "s-1", "time": "2026-01-01"}])
    (one,) = rejected(configured(logs))
    taken(logs, [{**one, "mended": {**chat(ANSWER), "time": "2027-01-01"}}])
    (record,) = read_lines(logs / "a.jsonl.replayed.jsonl")
    assert (record["session_id"], record["time"]) == ("s-1", "2027-01-01")


def test_two_records_of_one_line_come_in_both(logs: Path) -> None:
    (logs / "a.json").write_bytes(orjson.dumps([chat("", user="a"), chat(ANSWER), chat("", user="b")]))
    one, two = rejected(configured(logs))
    assert one["line"] == two["line"] == 1
    listing = [{**one, "mended": chat("One.")}, {**two, "mended": chat("Two.")}]
    assert states(taken(logs, listing)) == [("added", ""), ("added", "")]
    assert states(taken(logs, listing)) == [("held", ""), ("held", "")]
    assert [each["user"] for each in read_lines(logs / "a.json.replayed.jsonl")] == ["a", "b"]


def test_a_text_with_signs_for_lost_bytes_is_refused(logs: Path) -> None:
    (logs / "a.jsonl").write_bytes(orjson.dumps(chat("Gruesse aus Köln")).replace("ö".encode(), b"\xf6") + b"\n")
    (one,) = rejected(configured(logs))
    one["text"] = one["text"].replace("Gruesse", "Grüße")
    assert states(taken(logs, [one])) == [("out", "invalid UTF-8")]
    one["text"] = one["text"].replace("\ufffd", "ö")
    assert states(taken(logs, [one])) == [("added", "")]


def test_what_a_file_lost_from_a_line_on_is_mended_in_the_file(logs: Path) -> None:
    (logs / "a.csv").write_text('question,customer,at,answer\na,b,c,d\na,b,c,"never closed\na,b,c,d\n')
    config = configured(logs)
    (one,) = rejected(config)
    one["text"] = "a,b,c,closed"
    found = taken(logs, [one], config)
    assert states(found) == [("out", "unclosed quote")]
    assert "all after it in the file is lost too; mend the source file itself" in shown(found)


def test_a_source_that_is_gone_cannot_say_whether_a_text_is_whole(logs: Path) -> None:
    write_lines(logs / "a.jsonl", [chat("")])
    (one,) = rejected(configured(logs))
    (logs / "a.jsonl").unlink()
    mended = {**one, "text": orjson.dumps(chat(ANSWER)).decode()}
    assert states(taken(logs, [mended])) == [("out", "source not found")]
    assert states(taken(logs, [{**one, "mended": chat(ANSWER)}])) == [("out", "source not found")]
    into = logs / "mended.jsonl"
    assert states(taken(logs, [{**one, "mended": chat(ANSWER)}], into=into)) == [("added", "")]
    assert into.exists()


def test_what_its_own_file_gives_now_is_not_taken_from_the_list(logs: Path) -> None:
    (logs / "a.csv").write_text("q,a\nIs it wet?,Yes.\n")
    bare = configured(logs, "ingest.map=null")
    (one,) = rejected(bare)
    one["text"] = "Is it wet?,No."
    found = taken(logs, [one], configured(logs, "ingest.map={prompt: q, answer: a}"))
    assert states(found) == [("out", "not rejected any more")]


def test_a_file_that_replay_wrote_is_mended_itself(logs: Path) -> None:
    config = configured(logs)
    write_lines(logs / "a.jsonl", [chat("")])
    (one,) = rejected(config)
    taken(logs, [{**one, "mended": chat("Yes.")}])
    (again,) = rejected_by_rules(config)
    found = taken(logs, [{**again, "text": again["text"].replace("Yes.", ANSWER)}], config)
    assert [outcome.state for outcome in found.outcomes] == ["out"]
    assert "replay wrote" in found.outcomes[0].detail


def test_a_file_that_replay_did_not_write_is_left_alone(logs: Path) -> None:
    write_lines(logs / "a.jsonl", [chat("")])
    (one,) = rejected(configured(logs))
    before = (logs / "a.jsonl").read_bytes()
    with pytest.raises(ConfigError, match=r"a\.jsonl:1  replay did not write this line"):
        taken(logs, [{**one, "mended": chat(ANSWER)}], into=logs / "a.jsonl")
    with pytest.raises(ConfigError, match=r"would not be read as JSONL; let its name end with \.jsonl"):
        taken(logs, [{**one, "mended": chat(ANSWER)}], into=logs / "a.txt")
    assert (logs / "a.jsonl").read_bytes() == before


def test_a_list_inside_an_artifact_is_not_to_be_edited(logs: Path) -> None:
    write_lines(logs / "a.jsonl", [chat("")])
    raw, _ = ingested(configured(logs).ingest)
    with pytest.raises(ConfigError, match=r"Edit a copy: cp \S+/rejected\.jsonl mended\.jsonl"):
        replay(Store(Home.find().store).open(raw) / "rejected.jsonl")


def test_a_file_that_no_run_would_read_is_named(logs: Path) -> None:
    config = configured(logs, f"ingest.files=['{logs}/*.csv', {logs.parent}/good.jsonl]")
    (logs / "a.csv").write_text("question,customer,at,answer\nIs it wet?,u-1,2026-01-01,\n")
    (one,) = rejected(config)
    one["text"] += f'"{ANSWER}"'
    found = taken(logs, [one], config)
    assert f"Add {logs}/a.csv.replayed.jsonl to ingest.files, so that a run reads it." in shown(found)


def test_a_log_cannot_steer_the_terminal(logs: Path) -> None:
    turns = [{"role": "\x1b[2J", "content": "a"}]
    write_lines(logs / "a.jsonl", [{"messages": turns}])
    text = shown(taken(logs, rejected(configured(logs))))
    assert "unknown role: turn 1: `␛[2J`" in text
    assert "\x1b" not in text


def test_each_line_of_any_list_gets_one_outcome(logs: Path) -> None:
    write_lines(logs / "a.jsonl", [chat(""), {"messages": 5}, {"x": 1}])
    (logs / "b.csv").write_text("question,customer,at,answer\na,b\na,b,c,\na,b,c,d,e\n")
    config, dice = configured(logs), random.Random(5)
    lines = [orjson.dumps(each) for each in rejected(config)]
    bad = []
    for _ in range(2_000):
        line = bytearray(dice.choice(lines))
        for _ in range(dice.randint(0, 4)):
            place = dice.randrange(len(line))
            line[place : place + dice.randint(0, 3)] = bytes(
                dice.choices(b'"\\{}[],:\n0a\x00\xff\xed', k=dice.randint(0, 3))
            )
        bad += [each for each in bytes(line).split(b"\n") if each.strip()]
    (logs.parent / "bad.jsonl").write_bytes(b"\n".join(bad))
    found = replay(logs.parent / "bad.jsonl", None, config)
    assert [outcome.line for outcome in found.outcomes] == list(range(1, len(bad) + 1))
    assert {outcome.state for outcome in found.outcomes} >= {"out", "unmended"}
    assert len(shown(found).splitlines()) >= len(bad)
