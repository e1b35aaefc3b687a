"""What becomes of a night's question, in a real MLflow registry: answered, overtaken, expired, decided by hand."""

import datetime
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from tasks.champion import promote_by_hand
from tasks.night import champion, judged, records, write
from tasks.night_approval import Approval, answered, ask, followed_up
from tasks.night_champion import against_champion
from tasks.night_end import concluded, follow_up
from tasks.night_hand_over import PAUSES, hand_over
from tasks.run import Listener, listening
from tests.tracking.conftest import sealed
from tests.tracking.test_registry import version
from tunemill.artifacts import Evaluation, Exported
from tunemill.config import PipelineConfig, load
from tunemill.errors import GateNotPassed
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.home import PROJECT, Home
from tunemill.nights import Answer, Champion, HandOverSettings, Night
from tunemill.registry import CHAMPION, Registry, Version
from tunemill.store import Store
from tunemill.tracking import Tracking

pytestmark = pytest.mark.flow

UNTIL = datetime.datetime(2026, 3, 5, 2, tzinfo=datetime.UTC)
BEFORE, AFTER = UNTIL - datetime.timedelta(hours=1), UNTIL + datetime.timedelta(hours=1)
YES = Approval(approve=True, name="Ada", reason="read 50 answers")
NO = Approval(approve=False, name="Ben", reason="too curt")


class Heard(Listener):
    """Keep what was warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        """Keep it."""
        self.warnings.append(message)


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    with listening(heard):
        yield heard


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home)


@pytest.fixture
def three(registry: Registry, home: Home) -> list[Version]:
    tracking = Tracking(home, "desk", "night-1", {"name": "desk"})
    return [version(registry, tracking, digest) for digest in ("aaaaaaaa", "bbbbbbbb", "cccccccc")]


@pytest.fixture
def key(home: Home) -> str:
    """Seal an export, and give its key."""
    made: Exported = sealed(Store(home.store), Exported, {"gguf/desk.gguf": b"GGUF"}, {})
    return made.key


@pytest.fixture
def night(three: list[Version], registry: Registry, key: str) -> Night:
    """Give the night of version 2, judged while version 1 was champion, whose question is open."""
    registry.crown(three[0], None, "Cleo", "the first")
    registry.challenge(three[1])
    return write(
        Night(
            name="desk",
            date=datetime.date(2026, 3, 2),
            state="judged",
            verdict="PROMOTE",
            digest="bbbbbbbb",
            keys={"export": key},
            champion=champion("desk"),
            flow_run="flow-run-1",
            approval=Answer(state="waiting", until=UNTIL),
        )
    )


def scored(home: Home, tuned: float, **settings: Any) -> str:
    """Seal an evaluation of 20 rows that the tuned model has all right or all wrong; give its key."""
    lines = [
        {"row_id": f"row {n:02d}", "group": f"row {n:02d}", "arm": "tuned", "metric": "exact_match", "total": tuned}
        for n in range(20)
    ]
    data = b"".join(orjson.dumps({**line, "weight": 1}) + b"\n" for line in lines)
    asked = EvaluateSettings(metrics=("exact_match",), **settings).model_dump(mode="json")
    made: Evaluation = sealed(
        Store(home.store), Evaluation, {"scores.jsonl": data}, {}, section={"settings": asked}, right=tuned
    )
    return made.key


def judged_beside(night: Night, registry: Registry, champions: str, own: str) -> Night:
    """Let the champion be made from one evaluation and the night from another, before anybody was asked."""
    first = next(version for version in registry.versions("desk") if version.number == 1)
    registry.tag(first, "tunemill.made_from", f"export/{'0' * 32} evaluate/{champions}")
    keys = {**night.keys, "evaluate": own}
    return against_champion(night.model_copy(update={"keys": keys, "approval": None}))


def test_a_model_that_is_worse_than_the_champion_is_rejected_by_rule_and_nobody_is_asked(
    night: Night, registry: Registry, home: Home
) -> None:
    found = judged_beside(night, registry, scored(home, 1), scored(home, 0))
    told = "it is worse than champion version 1 on 20 test rows that both were scored on: exact_match -1.000"
    assert settled(found)[:2] == ("rejected", "rule")
    assert settled(found)[2].startswith(told)
    assert numbers(registry) == {"champion": 1, "challenger": None}
    assert told in tags(registry, 2)["tunemill.rejected"]


def test_a_model_that_is_better_is_asked_for_and_the_record_says_by_how_much(
    night: Night, registry: Registry, home: Home
) -> None:
    found = judged_beside(night, registry, scored(home, 0), scored(home, 1))
    assert found.approval is None
    assert found.beside is not None
    assert (found.beside["outcome"], found.beside["gain"], found.beside["rows"]) == ("better", 1.0, 20)


def test_models_that_were_not_asked_the_same_are_not_compared(
    night: Night, registry: Registry, home: Home, heard: Heard
) -> None:
    found = judged_beside(night, registry, scored(home, 1, max_new_tokens=9), scored(home, 0))
    assert (found.beside, found.approval) == (None, None)
    assert heard.warnings == ["champion version 1 was scored with another evaluate.max_new_tokens; nothing is compared"]


def settled(night: Night) -> tuple[str, str, str]:
    """Give what the record on disk says of the answer, after looking that it is what was returned."""
    assert records("desk") == [night]
    assert night.approval is not None
    return night.approval.state, night.approval.by, night.approval.reason


def numbers(registry: Registry) -> dict[str, int | None]:
    return {alias: registry.holder("desk", alias) for alias in ("champion", "challenger")}


def tags(registry: Registry, number: int) -> dict[str, str]:
    return next(version.tags for version in registry.versions("desk") if version.number == number)


def test_a_night_knows_the_champion_that_it_began_beside(night: Night) -> None:
    assert night.champion == Champion(version=1, digest="aaaaaaaa")
    assert champion("nobody") is None


def test_without_a_worker_the_version_waits_for_a_hand_and_the_next_step_is_told(night: Night) -> None:
    asked = ask(night.model_copy(update={"approval": None}), {}, hours=2)
    assert asked.approval is not None
    assert (asked.approval.state, asked.flow_run) == ("waiting", None)
    assert asked.approval.until - datetime.datetime.now(datetime.UTC) < datetime.timedelta(hours=2)
    assert concluded(asked)["next"].startswith(f"tunemill promote {night.keys['export'][:12]} --by NAME")


def test_only_what_the_gate_lets_pass_is_asked_for_and_only_once(night: Night) -> None:
    for verdict in ("REJECT", "CANNOT_TELL", "INVALID"):
        told = night.model_copy(update={"approval": None, "verdict": verdict})
        assert ask(told, {}, hours=2) == told
    settled = Answer(state="rejected", until=UNTIL, by="Ben", reason="too curt")
    told = night.model_copy(update={"approval": settled})
    assert ask(told, {}, hours=2) == told


def test_an_answer_counts_for_the_files_that_were_asked_about_and_for_no_others(night: Night, home: Home) -> None:
    other: Exported = sealed(
        Store(home.store), Exported, {"gguf/desk.gguf": b"GGUF, and other weights"}, {}, other=True
    )
    summary = {"stages": [{"name": "export", "key": other.key}], "gate": "PROMOTE", "run": "run-2"}
    with pytest.raises(GateNotPassed, match="the question was about files of digest bbbbbbbb, and run again it gave"):
        judged(night, summary)
    assert records("desk") == [night]
    fresh = judged(night.model_copy(update={"approval": None, "state": "open"}), summary)
    assert (fresh.state, fresh.verdict, fresh.digest) == ("judged", "PROMOTE", other.digest)


def test_approved_the_version_is_champion_and_says_who_and_why(
    night: Night, registry: Registry, three: list[Version]
) -> None:
    assert settled(answered(night, registry, three[1], YES)) == ("approved", "Ada", "read 50 answers")
    assert numbers(registry) == {"champion": 2, "challenger": None}
    assert tags(registry, 2)["tunemill.promoted_by"] == "Ada"


def test_rejected_the_champion_stays_and_the_version_says_who_and_why(
    night: Night, registry: Registry, three: list[Version]
) -> None:
    assert settled(answered(night, registry, three[1], NO)) == ("rejected", "Ben", "too curt")
    assert numbers(registry) == {"champion": 1, "challenger": None}
    assert tags(registry, 2)["tunemill.rejected"].endswith("by Ben: too curt")


def test_a_champion_that_was_moved_meanwhile_is_not_replaced(
    night: Night, registry: Registry, three: list[Version]
) -> None:
    registry.crown(three[2], 1, "Cleo", "urgent")
    with pytest.raises(GateNotPassed, match="version 3 is, where version 1 was expected"):
        answered(night, registry, three[1], YES)
    (written,) = records("desk")
    assert settled(written)[:2] == ("overtaken", "Ada")
    assert numbers(registry)["champion"] == 3


def test_a_promotion_that_was_killed_before_its_record_is_finished_by_the_same_answer(
    night: Night, registry: Registry, three: list[Version]
) -> None:
    registry.crown(three[1], 1, "Ada", "read 50 answers")
    assert settled(answered(night, registry, three[1], YES))[0] == "approved"


def test_silence_rejects_by_rule_after_its_time_and_only_reminds_before(
    night: Night, registry: Registry, heard: Heard
) -> None:
    assert followed_up(night, BEFORE, "another") == night
    told = "night 2026-03-02 of desk waits for an answer in flow run flow-run-1 until 2026-03-05 02:00 UTC"
    assert heard.warnings == [told]
    late = followed_up(night, AFTER, "another")
    assert settled(late) == ("expired", "rule", "nobody answered until 2026-03-05 02:00 UTC")
    assert numbers(registry) == {"champion": 1, "challenger": None}
    assert "by rule: nobody answered" in tags(registry, 2)["tunemill.rejected"]


def test_the_flow_run_that_was_answered_in_time_does_not_expire_itself(night: Night) -> None:
    assert followed_up(night, AFTER, "flow-run-1") == night


def test_what_was_promoted_by_hand_counts_as_the_answer(night: Night) -> None:
    promote_by_hand("desk/2", "Dora", "it was urgent")
    assert settled(followed_up(night, BEFORE, "another")) == ("approved", "Dora", "it was urgent")


def test_the_next_night_hands_over_what_was_promoted_by_hand(
    night: Night, home: Home, key: str, tmp_path: Path, heard: Heard
) -> None:
    promote_by_hand("desk/2", "Dora", "it was urgent")
    follow_up(configured(tmp_path), "another")
    assert (tmp_path / "in-use").resolve() == home.store / "export" / key
    assert concluded(records("desk")[0])["handed_over"] == ["symlink"]


def configured(folder: Path) -> PipelineConfig:
    asked = ["name=desk", f"nightly.hand_over={{symlink: {folder / 'in-use'}}}"]
    return load(PROJECT / "pipeline_configs" / "minimal.yaml", asked)


def test_the_link_is_moved_from_the_old_folder_and_a_folder_of_somebodys_is_left_alone(
    night: Night, registry: Registry, three: list[Version], home: Home, key: str, tmp_path: Path, heard: Heard
) -> None:
    done = answered(night, registry, three[1], YES)
    link, taken = tmp_path / "in-use", tmp_path / "taken"
    link.symlink_to(tmp_path / "old")
    taken.mkdir()
    kept = hand_over(done, HandOverSettings(symlink=str(taken)))
    assert (kept.handed_over, taken.is_symlink()) == ((), False)
    assert "is promoted, but its symlink failed" in heard.warnings[0]
    assert hand_over(done, HandOverSettings(symlink=str(link))).handed_over == ("symlink",)
    assert link.resolve() == home.store / "export" / key
    assert sorted(path.name for path in tmp_path.iterdir() if "in-use" in path.name) == ["in-use"]


def test_what_was_rolled_back_before_is_not_handed_over(
    night: Night, registry: Registry, three: list[Version], tmp_path: Path
) -> None:
    done = answered(night, registry, three[1], YES)
    registry.rollback("desk", "Cleo", "customers complain")
    assert hand_over(done, HandOverSettings(symlink=str(tmp_path / "in-use"))).handed_over == ()
    assert not (tmp_path / "in-use").is_symlink()


@pytest.fixture
def hook() -> Iterator[tuple[str, list[str]]]:
    """Serve a webhook that answers 500, and 302 to a place that would take all; give its URL and who came."""
    heard: list[str] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(302 if len(heard) == 2 else 500)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def do_GET(self) -> None:
            heard.append(f"GET {self.path}")
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/canary", heard
    server.shutdown()
    server.server_close()


def test_a_webhook_that_fails_is_tried_three_times_then_warned_of_without_its_url_and_undoes_nothing(
    night: Night,
    registry: Registry,
    three: list[Version],
    hook: tuple[str, list[str]],
    heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = answered(night, registry, three[1], YES)
    monkeypatch.setenv("DESK_HOOK", hook[0])
    monkeypatch.setattr("tasks.night_hand_over.PAUSES", (0.01, 0.01))
    assert hand_over(done, HandOverSettings(webhook="DESK_HOOK")) == done
    assert hook[1] == ["/canary"] * 3
    assert heard.warnings == [
        "night 2026-03-02 of desk is promoted, but its webhook failed: the URL in DESK_HOOK answered 500, 3 times; "
        "the next night tries again"
    ]
    assert registry.holder("desk", CHAMPION) == 2
    assert len(PAUSES) == 2


@pytest.mark.parametrize(
    "url", ["", "file:///etc/canary", "http://127.0.0.1:1/canary", "http://[canary", "http://ca nary/"]
)
def test_a_webhook_that_cannot_be_used_is_warned_of_without_its_url(
    url: str,
    night: Night,
    registry: Registry,
    three: list[Version],
    heard: Heard,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = answered(night, registry, three[1], YES)
    monkeypatch.setenv("DESK_HOOK", url)
    monkeypatch.setattr("tasks.night_hand_over.PAUSES", (0.01, 0.01))
    assert hand_over(done, HandOverSettings(webhook="DESK_HOOK")).handed_over == ()
    assert len(heard.warnings) == 1
    assert "DESK_HOOK" in heard.warnings[0]
    assert "nary" not in heard.warnings[0]
