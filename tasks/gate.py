"""Gate: from what evaluate and verify stored to one verdict; no model is asked."""

from pathlib import Path

import msgspec

from tasks.stage import stage
from tunemill import rows
from tunemill.artifacts import Decision, Evaluation, Verification
from tunemill.evaluation import gate as rules
from tunemill.evaluation.gate_evidence import Facts, Verified, read_scores
from tunemill.evaluation.gate_settings import GateSettings
from tunemill.evaluation.settings import EvaluateSettings
from tunemill.store import Manifest, Store, Work


@stage(makes=Decision, version=1)
def gate(work: Work, evaluation: Evaluation, verification: Verification, settings: GateSettings) -> Decision:
    """Judge every rule with its interval, and write one JSON that says PROMOTE, REJECT, CANNOT_TELL or INVALID."""
    manifest = work.store.manifest(evaluation.stage, evaluation.key)
    assert manifest is not None, "an artifact that was opened has a manifest"
    verdict = decide(work.open(evaluation), work.open(verification), settings, evaluated_with(manifest))
    (work.folder / "gate.json").write_bytes(rules.to_json(verdict))
    (work.report / "gate.md").write_text(rules.text(verdict), encoding="utf-8")
    return work.seal(Decision, conditions=len(verdict.checks), rows=verdict.rows)


def decide(evaluation: Path, verification: Path, settings: GateSettings, asked: EvaluateSettings) -> rules.GateVerdict:
    """Read the stored rows of both folders and judge them."""
    scores = read_scores(rows.read_lines(evaluation / "scores.jsonl"))
    facts = msgspec.json.decode((evaluation / "summary.json").read_bytes(), type=Facts)
    verified = msgspec.json.decode((verification / "verification.json").read_bytes(), type=Verified)
    return rules.decide(scores, facts, verified, settings, asked)


def evaluated_with(manifest: Manifest) -> EvaluateSettings:
    """Give the settings of an evaluation as it was made: they seed its intervals."""
    return EvaluateSettings.model_validate(manifest.parts["section"]["settings"])


def verdict_of(decision: Decision, store: Store) -> rules.GateVerdict:
    """Read the verdict of a gate that was passed or not."""
    return rules.from_json((store.open(decision) / "gate.json").read_bytes())
