"""What is decided again from stored rows: the verdict of a run, and that a failed proof stops it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from tasks.judge import judged, text_of
from tasks.verify import must_hold
from tests.stages.conftest import Chain
from tunemill.artifacts import Verification
from tunemill.errors import ArtifactDamaged, ConfigError, GateNotPassed
from tunemill.evaluation import gate
from tunemill.exporting.proof import Check
from tunemill.home import PROJECT, Home
from tunemill.store import Store, content_digest, hash_files


def rules(text: str) -> list[str]:
    return [f"gate.rules=[{{metric: exact_match, {text}}}]"]


def later(home: Home, run: str, name: str, **changes: Any) -> None:
    """Write the record of another run, like that of `run` but for some changes."""
    record = orjson.loads((home.runs / f"{run}.json").read_bytes())
    (home.runs / f"{name}.json").write_bytes(orjson.dumps({**record, "id": name, **changes}))


def test_a_run_is_judged_again_to_the_byte(chain: Chain) -> None:
    stored = (chain.store.open(chain.decision) / "gate.json").read_bytes()
    assert gate.to_json(msgspec.convert(judged(chain.run), gate.GateVerdict)) == stored
    assert judged(chain.run) == judged(chain.run[:18]) == judged("last") == orjson.loads(stored)


def test_judging_loads_no_model_no_mlflow_and_no_prefect(chain: Chain) -> None:
    code = (
        "import sys\nfrom tasks.judge import judged\nprint(judged(sys.argv[1])['verdict'])\n"
        "print([m for m in 'torch transformers mlflow prefect'.split() if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, chain.run], capture_output=True, text=True, cwd=PROJECT, check=True, env=os.environ
    )
    assert done.stdout.splitlines() == [judged(chain.run)["verdict"], "[]"]


def test_other_rules_give_another_verdict_and_the_stored_one_stays(chain: Chain) -> None:
    """The tuned arm is right on every row and few-shot on one."""
    own = judged(chain.run)
    assert judged(chain.run, rules("better_than: [base, few_shot]"))["verdict"] == own["verdict"] == "PROMOTE"
    open_ = judged(chain.run, rules("at_least: 0.99"))
    assert (open_["verdict"], open_["rows"]) == ("CANNOT_TELL", chain.splits.counts["test"])
    assert text_of(open_).startswith("# CANNOT_TELL: ")
    assert judged(chain.run) == own


def test_a_rule_that_is_shown_not_to_hold_is_a_rejection(chain: Chain, copied: Home) -> None:
    """The base is right nowhere: judged in place of the tuned model it fails."""
    evaluation = Store(copied.store).manifests("evaluate")[0]
    folder = copied.store / "evaluate" / evaluation.key
    for name in ("scores.jsonl", "summary.json"):
        data = (folder / name).read_bytes()
        swapped = data.replace(b'"tuned"', b'"?"').replace(b'"base"', b'"tuned"').replace(b'"?"', b'"base"')
        (folder / name).write_bytes(swapped)
    reseal(folder)
    found = judged(chain.run, rules("better_than: [base]"))
    assert found["verdict"] == "REJECT"
    assert len(found["reasons"]) == 1


def reseal(folder: Path) -> None:
    """Write the manifest anew, as for files that were made so."""
    path = folder / "manifest.json"
    files = hash_files(folder)
    told = {"files": {n: f.model_dump() for n, f in files.items()}, "digest": content_digest(files)}
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | told))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "gate.rules=[{metric: exact_match, at_leest: 0.9}]",
            "gate.rules.0.at_leest: no such setting; did you mean `at_",
        ),
        ("gate.rules=[{metric: json_valid, at_least: 0.9}]", "json_valid is not measured; add it to evaluate.metrics"),
        ("gate.rules=[]", "`rules` is empty, so everything would pass"),
        ("gate.rule=1", "gate.rule: no such setting; did you mean `rules`?"),
        ("evaluate.confidence=0.5", "evaluate.confidence=0.5: only `gate` can be set here"),
        ("gate.rules=[{metric", "--set gate.rules=[{metric: the value is not YAML: expected ',' or '}'"),
        ("rules", "--set rules: the form is --set section.setting=value"),
    ],
)
def test_a_rule_that_cannot_be_is_an_error_with_the_way_out(chain: Chain, override: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        judged(chain.run, [override])
    assert says in str(refused.value)
    assert str(refused.value).startswith("--set  ")
    assert refused.value.exit_code == 2


def test_settings_of_an_older_version_do_not_pass_for_faults_of_the_rules(chain: Chain, copied: Home) -> None:
    record = orjson.loads((copied.runs / f"{chain.run}.json").read_bytes())
    later(copied, chain.run, "99991231T000000-aaaaaa", config={**record["config"], "gone": 1})
    with pytest.raises(ConfigError, match="was made with settings that this version does not know: gone"):
        judged("last")


def test_a_run_that_nobody_knows_names_the_newest(chain: Chain) -> None:
    with pytest.raises(ConfigError) as refused:
        judged("1999")
    assert f"0 runs in {chain.home.runs} have an id that begins with '1999'" in str(refused.value)
    assert f"the newest are {chain.run}" in str(refused.value)


def test_digits_of_two_runs_are_ambiguous_and_a_whole_id_is_not(chain: Chain, copied: Home) -> None:
    later(copied, chain.run, f"{chain.run}0")
    with pytest.raises(ConfigError, match=rf"2 runs .* begins with '20.*the newest are {chain.run}0, {chain.run}"):
        judged("20")
    assert judged(chain.run)["verdict"] == "PROMOTE"


def test_without_any_run_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    for run in ("last", "2026"):
        with pytest.raises(ConfigError, match=rf"no run in {tmp_path / 'runs'}; the newest are none yet"):
            judged(run)


def test_a_run_that_failed_before_verify_says_why(chain: Chain, copied: Home) -> None:
    failed = {"state": "failed", "error": "TrainingError: the loss is NaN at step 3\nmore"}
    later(copied, chain.run, "99991231T000000-aaaaaa", stages=[], **failed)
    with pytest.raises(ConfigError, match=r"did not come to verify.*\(TrainingError: the loss is NaN at step 3\)"):
        judged("last")
    later(copied, chain.run, "99991231T000000-aaaaaa", stages=[], state="running", error=None)
    with pytest.raises(ConfigError, match=r"\(it is running\)"):
        judged("last")


def test_rows_that_were_deleted_or_changed_are_not_judged(chain: Chain, copied: Home) -> None:
    folder = copied.store / "verify" / chain.verification.key
    with (folder / "verification.json").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ArtifactDamaged, match=r"verification\.json"):
        judged(chain.run)
    shutil.rmtree(folder)
    with pytest.raises(ConfigError, match="is no longer there; run the pipeline again"):
        judged(chain.run)


Seal = Callable[..., Verification]


@pytest.fixture
def proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Seal:
    """Seal what a verification measured, as its stage does."""
    monkeypatch.setenv("TUNEMILL_HOME", str(tmp_path))
    store = Store(Home.find().store)

    def seal(*checks: Check) -> Verification:
        with store.work("verify", "0" * 32) as work:
            told = [{**msgspec.to_builtins(check), "passed": check.passed} for check in checks]
            (work.folder / "measures.json").write_bytes(orjson.dumps({"checks": told, "links": {}}))
            (work.report / "verify.md").write_text("# measures")
            work.seal(Verification, checks=len(checks), failed=sum(not check.passed for check in checks))
            return store.commit(work, Verification, {}, {})

    return seal


GOOD = Check("merged", "next-token top-1 agreement", 0.995, "at least", 0.98, 0.999)


def test_a_proof_that_holds_lets_the_run_go_on(proof: Seal) -> None:
    held = proof(GOOD)
    assert must_hold(held) is held


def test_a_failed_proof_stops_the_run_with_the_numbers_and_the_worst_prompts(proof: Seal, tmp_path: Path) -> None:
    worst = ["4cd2eecab817 (1.250 nats)", "bad36a9017bc (0.310 nats)"]
    kl = Check("q4_k_m", "mean divergence (nats per token)", 0.4321, "at most", 0.1, 0.0001, worst)
    same = Check("q4_k_m", "prompts with the same token ids", 0.5, "at least", 1.0, None, ["x: [1] became [2]"])
    with pytest.raises(GateNotPassed) as stopped:
        must_hold(proof(GOOD, kl, same))
    assert stopped.value.exit_code == 4
    lines = str(stopped.value).splitlines()
    assert lines[0] == "verify: 2 of 3 checks failed; nothing is published"
    assert lines[1].strip() == (
        "q4_k_m: mean divergence (nats per token) 0.432, at most 0.100 asked; noise floor 0.0001"
    )
    assert [line.strip() for line in lines[2:4]] == worst
    assert lines[4].strip() == "q4_k_m: prompts with the same token ids 0.500, at least 1.000 asked"
    assert lines[5].strip() == "x: [1] became [2]"
    assert lines[6].strip() == f"all measures: {tmp_path / 'store' / 'verify' / ('0' * 32) / 'report' / 'verify.md'}"
    assert "quantize.fallback: q8_0" in lines[7]


def test_a_measure_that_is_no_number_is_told_as_such(proof: Seal) -> None:
    """JSON has no NaN: it is stored as null."""
    broken = Check("q4_k_m", "mean divergence (nats per token)", float("nan"), "at most", 0.1, float("nan"))
    with pytest.raises(GateNotPassed, match=r"1 of 1 checks failed[^\n]*\n *q4_k_m: mean divergence .* nan, at most"):
        must_hold(proof(broken))
