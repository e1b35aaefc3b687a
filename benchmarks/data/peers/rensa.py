"""rensa: `python rensa.py TEXTS SETTING FLAGS`, TEXTS holding one JSON string a line; FLAGS becomes one digit a row."""

import json
import resource
import sys
import time

# The script's folder comes first, where this very file would be taken for the package.
sys.path.pop(0)
import rensa

SETTINGS = {
    "documented (words, 128 values)": lambda: rensa.RMinHashDeduplicator(threshold=0.7, num_perm=128, use_lsh=True),
    "best (character 5-grams, 28 bands)": lambda: rensa.RMinHashDeduplicator(
        threshold=0.7, num_perm=140, use_lsh=True, num_bands=28
    ),
}


def main(texts_file: str, setting: str, flags_file: str) -> None:
    with open(texts_file, encoding="utf-8") as file:
        texts = [json.loads(line) for line in file]
    cpu, wall = time.process_time(), time.perf_counter()
    engine = SETTINGS[setting]()
    if setting.startswith("best"):
        pairs = ((str(i), [t[k : k + 5] for k in range(max(len(t) - 4, 1))]) for i, t in enumerate(texts))
    else:
        pairs = ((str(i), text.split()) for i, text in enumerate(texts))
    kept = engine.add_pairs(pairs)
    spent = {"cpu": round(time.process_time() - cpu, 4), "wall": round(time.perf_counter() - wall, 4)}
    with open(flags_file, "w") as file:
        file.write("".join("0" if keep else "1" for keep in kept))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"parts": {"deduplicate": spent}, "peak_mb": memory}))


if __name__ == "__main__":
    if sys.argv[1] == "settings":
        print(json.dumps({"settings": list(SETTINGS)}))
    else:
        main(*sys.argv[1:])
