"""Export: the files that ship, in one folder, each with its lineage and its checksum."""

import importlib.metadata

import orjson

from tasks.publish import lineage
from tasks.run import Run
from tasks.stage import stage
from tunemill.artifacts import Adapter, Evaluation, Exported, Merged, Quantized, Tokenizer
from tunemill.exporting import checksums
from tunemill.exporting.lineage import FILE, PREFIX, base_name, facts
from tunemill.exporting.settings import ExportSettings
from tunemill.exporting.target import Shipment
from tunemill.exporting.targets import TARGETS
from tunemill.models.sources import ModelSource
from tunemill.store import Work


@stage(makes=Exported, version=1)
def export(
    work: Work,
    source: ModelSource,
    tokenizer: Tokenizer,
    adapter: Adapter,
    merged: Merged,
    quantized: Quantized,
    evaluation: Evaluation,
    settings: ExportSettings,
) -> Exported:
    """Fill a folder a target; files that carry lineage are written anew, all others are hard links."""
    shipment = Shipment(
        merged=work.open(merged),
        quantized=work.open(quantized),
        adapter=work.open(adapter),
        tokenizer=work.open(tokenizer),
        facts=_facts(work, source, quantized, evaluation),
        base=base_name(source),
        settings=settings,
    )
    for name in settings.targets:
        (work.folder / name).mkdir()
        TARGETS[name].write(shipment, work.folder / name)
    (work.folder / FILE).write_bytes(
        orjson.dumps(shipment.facts, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
    )
    checksums.write(work.folder)
    sizes = [path.stat().st_size for path in work.folder.rglob("*") if path.is_file()]
    return work.seal(Exported, files=len(sizes), bytes=sum(sizes))


def _facts(work: Work, source: ModelSource, quantized: Quantized, evaluation: Evaluation) -> dict[str, str]:
    verdict = orjson.loads((work.open(evaluation) / "summary.json").read_bytes())["verdict"]
    chain = lineage(work.store, quantized.stage, quantized.key) | lineage(work.store, evaluation.stage, evaluation.key)
    told = facts(chain, source, Run.current().id, verdict, importlib.metadata.version("tunemill"))
    return {**told, f"{PREFIX}key.export": work.key}
