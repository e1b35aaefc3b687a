"""data-juicer: `python data_juicer.py TEXTS SETTING FLAGS`, as in rensa.py; its operator, in its own processes."""

import json
import os
import resource
import sys
import tempfile
import time

# The script's folder comes first, where this very file would be taken for the package.
sys.path.pop(0)
# It installs what an operator lacks when that is first used: here that should fail.
os.environ |= {"UV_OFFLINE": "1", "PIP_NO_INDEX": "1"}

# Best: the most recall and precision together on these rows, of 1 and 2 words and 5 and 8 characters, 3 to 20 values a
# band, 256 in all.
SETTINGS = {
    "documented (five words, 25 bands of 10)": {},
    "best (single words, 20 bands of 12)": {
        "window_size": 1,
        "num_permutations": 240,
        "num_bands": 20,
        "num_rows_per_band": 12,
    },
}


def main(texts_file: str, setting: str, flags_file: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        os.environ |= {"HF_HOME": name, "DATA_JUICER_CACHE_HOME": name}
        from data_juicer.core.data import NestedDataset
        from data_juicer.ops.deduplicator import DocumentMinhashDeduplicator

        with open(texts_file, encoding="utf-8") as file:
            texts = [json.loads(line) for line in file]
        rows = NestedDataset.from_dict({"number": list(range(len(texts))), "text": texts})
        cpu, wall = sum(os.times()[:4]), time.perf_counter()
        engine = DocumentMinhashDeduplicator(**SETTINGS[setting])
        # As its run() does, which then frees models that were never loaded and wants torch for it.
        hashed = rows.map(engine.compute_hash, num_proc=engine.runtime_np())
        kept = set(engine.process(hashed)[0]["number"])
        spent = {"cpu": round(sum(os.times()[:4]) - cpu, 4), "wall": round(time.perf_counter() - wall, 4)}
    with open(flags_file, "w") as file:
        file.write("".join("0" if number in kept else "1" for number in range(len(texts))))
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024
    print(json.dumps({"parts": {"deduplicate": spent}, "peak_mb": memory}))


if __name__ == "__main__":
    if sys.argv[1] == "settings":
        print(json.dumps({"settings": list(SETTINGS)}))
    else:
        main(*sys.argv[1:])
