"""Verify: prove that each file that ships answers as the adapter did that was trained, or say where it does not.

A failed proof is sealed as well, with what was measured: the same question has the same answer tomorrow.
"""

import math

import msgspec
import orjson

from tasks.evaluate import method
from tasks.gate import evaluated_with
from tasks.run import listener
from tasks.stage import stage
from tunemill import rows
from tunemill.artifacts import (
    Adapter,
    BaseWeights,
    Evaluation,
    Exported,
    Merged,
    Quantized,
    Splits,
    Tokenizer,
    Verification,
)
from tunemill.errors import GateNotPassed
from tunemill.exporting import checks, verify_report
from tunemill.exporting.proof import Check
from tunemill.exporting.prove import Findings, Folders, prove
from tunemill.exporting.quantize_settings import QuantizeSettings
from tunemill.exporting.verify_settings import VerifySettings
from tunemill.home import Home
from tunemill.store import Store, Work

ENGINES = ("torch", "transformers", "peft", "bitsandbytes", "xllamacpp", "cyllama")


@stage(makes=Verification, version=1, engines=ENGINES)
def verify(
    work: Work,
    base: BaseWeights,
    tokenizer: Tokenizer,
    splits: Splits,
    adapter: Adapter,
    evaluation: Evaluation,
    merged: Merged,
    quantized: Quantized,
    exported: Exported,
    wanted: QuantizeSettings,
    settings: VerifySettings,
) -> Verification:
    """Ask every file the questions of the evaluation, and hold what it says against the adapter as trained."""
    manifest = work.store.manifest(evaluation.stage, evaluation.key)
    assert manifest is not None, "an artifact that is an input has a manifest"
    folders = Folders(
        model=work.open(base),
        tokenizer=work.open(tokenizer),
        trained=work.open(adapter) / "adapter",
        merged=work.open(merged) / "checkpoint",
        quantized=work.open(quantized),
        exported=work.open(exported),
        evaluation=work.open(evaluation),
        test=work.open(splits) / "test",
        scratch=work.resume,
    )
    found = prove(folders, method(work, adapter), evaluated_with(manifest), wanted.method, settings, hear)
    write(work, found)
    return work.seal(
        Verification,
        checks=len(found.checks),
        failed=len(found.failed),
        prompts=len(found.asked.places.row_ids),
        positions=found.asked.places.total,
    )


def write(work: Work, found: Findings) -> None:
    """Write every measure, the scores that the gate reads, what llama.cpp said, and the report."""
    links = {name: (near.kl, near.top1) for name, near in found.links.items()}
    measured = {"checks": [{**msgspec.to_builtins(c), "passed": c.passed} for c in found.checks], "links": links}
    (work.folder / "measures.json").write_bytes(orjson.dumps(measured, option=orjson.OPT_INDENT_2) + b"\n")
    (work.folder / "verification.json").write_bytes(msgspec.json.encode(found.verified) + b"\n")
    replies = ({"row_id": row_id, **msgspec.to_builtins(reply)} for row_id, reply in found.replies.items())
    rows.write_lines(work.folder / "replies.jsonl", replies)
    asked = f"{len(found.questions.row_ids):,} test prompts, {found.asked.places.total:,} token positions."
    if found.replies and (tooled := len(found.asked.tooled)):
        asked += f" {tooled:,} prompts with tools went to llama.cpp as token ids: how it writes tools is not compared."
    verify_report.write(work.report, found.checks, links, asked)


def must_hold(verification: Verification) -> Verification:
    """Stop the run where a file that would ship is not the adapter that was trained.

    Raises:
        GateNotPassed: naming the steps, the numbers and the worst prompts.
    """
    if not verification.counts["failed"]:
        return verification
    folder = Store.at(Home.find().store).open(verification)
    stored = orjson.loads((folder / "measures.json").read_bytes())["checks"]
    for check in stored:
        del check["passed"]
        # As null JSON writes what is no number: a file whose logits are NaN fails, and has to be told as such.
        check["value"] = math.nan if check["value"] is None else check["value"]
    failed = checks.failures([msgspec.convert(check, Check) for check in stored])
    raise GateNotPassed(
        f"verify: {len(failed)} of {len(stored)} checks failed; nothing is published\n  "
        + "\n  ".join(line for text in failed for line in text.splitlines())
        + f"\n  all measures: {folder / 'report' / 'verify.md'}\n"
        "  Ship in more bits (quantize.method, or quantize.fallback: q8_0), or widen the bound in `verify` knowingly."
    )


def hear(done: int, total: int) -> None:
    """Pass the count of answers to the screen."""
    listener().progress("verify", done, total, "answers")
