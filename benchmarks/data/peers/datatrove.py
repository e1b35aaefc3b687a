"""datatrove: `python datatrove.py TEXTS SETTING FLAGS`, as in rensa.py; the steps of its example that find copies."""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

# The script's folder comes first, where this very file would be taken for the package.
sys.path.pop(0)
import numpy as np
import spacy  # noqa: F401  # imported at the first text otherwise, with the clock running
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets, MinhashDedupCluster

# Best: the most recall and precision together on these rows, of 1 to 3 words, 3 to 20 hashes a band, 256 in all.
SETTINGS = {
    "documented (five words, 14 bands of 8)": MinhashConfig(),
    "best (single words, 20 bands of 12)": MinhashConfig(n_grams=1, num_buckets=20, hashes_per_bucket=12),
}


def dropped_of(texts: list[str], config: MinhashConfig, folder: Path) -> list[bool]:
    """Run signatures, buckets and clusters one after another in this process, which costs the least CPU."""
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    signatures, buckets, remove = (str(folder / name) for name in ("signatures", "buckets", "remove"))
    steps = [
        ([lambda *_: documents, MinhashDedupSignature(signatures, config=config)], 1),
        ([MinhashDedupBuckets(signatures, buckets, config=config)], config.num_buckets),
        ([MinhashDedupCluster(buckets, remove, config=config)], 1),
    ]
    for number, (pipeline, tasks) in enumerate(steps):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(folder / f"log{number}")).run()
    dropped = np.zeros(len(texts), np.bool_)
    for file in Path(remove).glob("*.remove"):
        dropped[np.fromfile(file, "<u4")] = True
    return dropped.tolist()


def main(texts_file: str, setting: str, flags_file: str) -> None:
    with open(texts_file, encoding="utf-8") as file:
        texts = [json.loads(line) for line in file]
    with tempfile.TemporaryDirectory() as name:
        cpu, wall = sum(os.times()[:4]), time.perf_counter()
        dropped = dropped_of(texts, SETTINGS[setting], Path(name))
        spent = {"cpu": round(sum(os.times()[:4]) - cpu, 4), "wall": round(time.perf_counter() - wall, 4)}
    with open(flags_file, "w") as file:
        file.write("".join("1" if flag else "0" for flag in dropped))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"parts": {"deduplicate": spent}, "peak_mb": memory}))


if __name__ == "__main__":
    if sys.argv[1] == "settings":
        print(json.dumps({"settings": list(SETTINGS)}))
    else:
        main(*sys.argv[1:])
