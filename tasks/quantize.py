"""Quantize: the merged model becomes one GGUF in 16 bits, and one in fewer."""

import orjson

from tasks.stage import stage
from tunemill.artifacts import Merged, Quantized
from tunemill.exporting import converter, gguf, llama
from tunemill.exporting.quantize_settings import QuantizeSettings
from tunemill.home import Home
from tunemill.store import Work


@stage(makes=Quantized, version=1, engines=("cyllama", "transformers"))
def quantize(work: Work, merged: Merged, settings: QuantizeSettings) -> Quantized:
    """Convert with llama.cpp's converter, quantize with its library, and count the tensors by type.

    The converter's release stands in `converter.lock`; a new one raises this stage's version.
    """
    whole, small = work.folder / "f16.gguf", work.folder / f"{settings.method}.gguf"
    converter.convert(work.open(merged) / "checkpoint", whole, Home.find().root)
    types = llama.quantize(whole, small, settings.method)
    facts = {"kind": settings.method, "tensors": types, "bits_per_weight": round(gguf.bits_per_weight(small), 3)}
    (work.folder / "quantize.json").write_bytes(orjson.dumps(facts, option=orjson.OPT_INDENT_2) + b"\n")
    megabytes = {"f16_megabytes": whole, "quantized_megabytes": small}
    return work.seal(Quantized, **{name: round(path.stat().st_size / 1e6) for name, path in megabytes.items()})
