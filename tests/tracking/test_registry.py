"""Versions and aliases in a real MLflow registry on SQLite."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.flows.processes import Process
from tunemill import shipped_model
from tunemill.errors import ConfigError, GateNotPassed
from tunemill.home import Home
from tunemill.registry import CHALLENGER, CHAMPION, Registry, Version
from tunemill.tracking import Tracking

pytestmark = pytest.mark.flow

RACE = """
import json, sys, time
from pathlib import Path
from tunemill.errors import GateNotPassed
from tunemill.home import Home
from tunemill.registry import Registry

me, folder, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
registry, told = Registry(Home.find()), []
version = next(v for v in registry.versions("desk") if v.number == int(me))

def meet(place):
    (folder / f"{place}-{me}").touch()
    while len(list(folder.glob(f"{place}-*"))) < 2:
        time.sleep(0.0005)

for lap in range(rounds):
    meet(f"start{lap}")
    try:
        registry.crown(version, 1, "a racer", "it is a race")
        told.append("won")
    except GateNotPassed as refused:
        told.append(str(refused))
    meet(f"end{lap}")
    if told[-1] == "won":
        registry.client.set_registered_model_alias("desk", "champion", "1")
print(json.dumps(told))
"""


@pytest.fixture
def registry(home: Home) -> Registry:
    return Registry(home)


@pytest.fixture
def tracking(home: Home) -> Tracking:
    return Tracking(home, "desk", "night-1", {"name": "desk"})


def logged(tracking: Tracking, home: Home, files: dict[str, Path], name: str = "export-1") -> str:
    return shipped_model.log(tracking.client, home, tracking.run_id, name, files, {"train": {"rank": 8}}, {})


def version(registry: Registry, tracking: Tracking, digest: str, verdict: str = "PROMOTE") -> Version:
    """Register a version that shows no files."""
    tags = {"tunemill.verdict": verdict}
    name = f"export-{digest}"
    return registry.register("desk", digest, tracking.run_id, lambda: logged(tracking, registry.home, {}, name), tags)


@pytest.fixture
def three(registry: Registry, tracking: Tracking) -> list[Version]:
    return [version(registry, tracking, digest) for digest in ("aaaaaaaa", "bbbbbbbb", "cccccccc")]


def crown(registry: Registry, new: Version) -> None:
    registry.crown(new, registry.holder("desk", CHAMPION), "Ada", "reads well")


def tags(client: Any, number: int) -> dict[str, str]:
    return dict(client.get_model_version("desk", str(number)).tags)


def test_the_same_digest_is_registered_once_and_its_files_are_logged_once(
    registry: Registry, tracking: Tracking, client: Any
) -> None:
    first, again = version(registry, tracking, "aaaaaaaa"), version(registry, tracking, "aaaaaaaa")
    assert (first.number, again.number) == (1, 1)
    assert version(registry, tracking, "bbbbbbbb").number == 2
    assert len(client.search_logged_models([tracking.experiment])) == 2


def test_a_version_names_its_run_and_its_logged_model_names_the_version(
    registry: Registry, tracking: Tracking, client: Any
) -> None:
    made = version(registry, tracking, "aaaaaaaa")
    registry.describe(made, "x" * 6000, {"tunemill.verdict": "REJECT"})
    stands = client.get_model_version("desk", "1")
    assert (stands.run_id, stands.source) == (tracking.run_id, f"models:/{made.model_id}")
    assert len(stands.description) == 5000
    assert stands.tags["tunemill.verdict"] == "REJECT"
    assert json.loads(client.get_logged_model(made.model_id).tags["mlflow.modelVersions"]) == [
        {"name": "desk", "version": 1}
    ]
    [output] = client.get_run(tracking.run_id).outputs.model_outputs
    assert output.model_id == made.model_id


def test_a_swap_that_expects_the_holder_moves_the_alias(registry: Registry, three: list[Version]) -> None:
    registry.swap("desk", CHALLENGER, None, 1)
    registry.swap("desk", CHALLENGER, 1, 3)
    assert registry.holder("desk", CHALLENGER) == 3


def test_a_swap_that_expects_another_holder_is_refused_and_names_who_holds_it(
    registry: Registry, three: list[Version]
) -> None:
    registry.swap("desk", CHAMPION, None, 2)
    with pytest.raises(GateNotPassed, match="version 3 is not champion: version 2 is, where version 1 was expected"):
        registry.swap("desk", CHAMPION, 1, 3)
    assert registry.holder("desk", CHAMPION) == 2


def test_two_processes_race_12_times_and_each_time_one_wins_and_the_other_is_told(
    home: Home, registry: Registry, three: list[Version], tmp_path: Path
) -> None:
    crown(registry, three[0])
    folder = tmp_path / "race"
    folder.mkdir()
    racers = [Process(home.root, f"racer-{n}", "-c", RACE, n, str(folder), "12") for n in ("2", "3")]
    ended = [racer.end() for racer in racers]
    assert [one.status for one in ended] == [0, 0], ended
    for two, three_ in zip(*(json.loads(one.out) for one in ended), strict=True):
        winner, lost = ("2", three_) if two == "won" else ("3", two)
        assert [two, three_].count("won") == 1, (two, three_)
        assert f"version {winner} is, where version 1 was expected" in lost


def test_a_crowned_version_says_by_whom_why_since_when_and_after_whom(
    registry: Registry, three: list[Version], client: Any
) -> None:
    registry.challenge(three[1])
    crown(registry, three[0])
    crown(registry, three[1])
    found = tags(client, 2)
    assert (found["tunemill.promoted_by"], found["tunemill.reason"]) == ("Ada", "reads well")
    assert (found["tunemill.champion_before"], tags(client, 1)["tunemill.champion_before"]) == ("1", "none")
    assert found["tunemill.champion_since"].endswith("+00:00")
    assert registry.versions("desk")[1].aliases == (CHAMPION,)
    assert registry.holder("desk", CHALLENGER) is None


def test_a_crowning_that_is_refused_leaves_no_name_on_the_version(
    registry: Registry, three: list[Version], client: Any
) -> None:
    crown(registry, three[0])
    with pytest.raises(GateNotPassed):
        registry.crown(three[1], None, "Bob", "did not look")
    assert "tunemill.promoted_by" not in tags(client, 2)


def test_two_rollbacks_go_back_two_champions_and_a_third_says_that_there_is_none(
    registry: Registry, three: list[Version], client: Any
) -> None:
    for one in three:
        crown(registry, one)
    assert registry.rollback("desk", "Ada", "it rambles")[0].number == 2
    assert registry.rollback("desk", "Ada", "so does this")[0].number == 1
    with pytest.raises(ConfigError, match="version 1 is the champion and no champion before it stands"):
        registry.rollback("desk", "Ada", "and this")
    assert registry.holder("desk", CHAMPION) == 1
    assert tags(client, 3)["tunemill.rolled_back"].endswith("by Ada: it rambles")


def test_after_a_rollback_the_next_champion_follows_the_one_that_was_put_back(
    registry: Registry, three: list[Version], client: Any
) -> None:
    crown(registry, three[0])
    crown(registry, three[1])
    registry.rollback("desk", "Ada", "it rambles")
    crown(registry, three[2])
    assert client.get_registered_model("desk").tags["tunemill.champions"] == "1 3"
    assert registry.rollback("desk", "Ada", "again")[0].number == 1


def test_a_rollback_passes_over_a_version_that_was_deleted(
    registry: Registry, three: list[Version], client: Any
) -> None:
    for one in three:
        crown(registry, one)
    client.delete_model_version("desk", "2")
    assert registry.rollback("desk", "Ada", "it rambles")[0].number == 1


def test_a_champion_that_was_set_by_hand_in_mlflow_can_be_rolled_back(
    registry: Registry, three: list[Version], client: Any
) -> None:
    crown(registry, three[0])
    client.set_registered_model_alias("desk", CHAMPION, "3")
    restored, taken = registry.rollback("desk", "Ada", "it rambles")
    assert (restored.number, taken) == (1, 3)


def test_a_rollback_that_died_halfway_is_finished_by_the_next_one(
    registry: Registry, three: list[Version], client: Any
) -> None:
    crown(registry, three[0])
    crown(registry, three[1])
    client.set_registered_model_tag("desk", "tunemill.champions", "1")
    assert registry.rollback("desk", "Ada", "it rambles")[0].number == 1
    assert client.get_registered_model("desk").tags["tunemill.champions"] == "1"


def test_a_rollback_of_an_unknown_name_lists_the_known(registry: Registry, three: list[Version]) -> None:
    with pytest.raises(ConfigError, match="under the name 'shop'; known here: desk"):
        registry.rollback("shop", "Ada", "wrong name")


def test_files_in_this_home_become_links_and_take_no_disk(home: Home, tracking: Tracking, client: Any) -> None:
    weights = home.root / "model.gguf"
    weights.write_bytes(os.urandom(1000))
    model = client.get_logged_model(logged(tracking, home, {"gguf/model.gguf": weights}))
    [shown] = home.mlflow_artifacts.rglob("model.gguf")
    assert shown.samefile(weights)
    assert str(shown.parent.parent) == model.artifact_location.removeprefix("file://").rstrip("/")
    assert [file.path for file in client.list_logged_model_artifacts(model.model_id)] == ["gguf"]


def test_elsewhere_small_files_are_sent_and_large_ones_are_named_with_their_place_and_size(
    home: Home, tracking: Tracking, client: Any, tmp_path: Path
) -> None:
    large, small = home.root / "model.gguf", home.root / "Modelfile"
    small.write_text("FROM model.gguf")
    with large.open("wb") as file:
        file.truncate(shipped_model.SENT + 1)
    other = client.create_experiment("elsewhere", (tmp_path / "server").as_uri())
    model = client.create_logged_model(other, "export-1")
    how = shipped_model.attach(client, home, model.model_id, {"gguf/model.gguf": large, "gguf/Modelfile": small})
    assert how == {"gguf/model.gguf": "elsewhere", "gguf/Modelfile": "sent"}
    sent = {path.name: path for path in (tmp_path / "server").rglob("*") if path.is_file()}
    assert sorted(sent) == ["Modelfile", "elsewhere.json"]
    places = json.loads(sent["elsewhere.json"].read_bytes())
    assert places == {"gguf/model.gguf": {"uri": large.as_uri(), "size": 33_554_433}}
