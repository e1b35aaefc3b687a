"""datasketch: `python datasketch.py TEXTS SETTING FLAGS`, as in rensa.py."""

import json
import resource
import sys
import time

# The script's folder comes first, where this very file would be taken for the package.
sys.path.pop(0)
from datasketch import MinHash, MinHashLSH

SETTINGS = ("documented (words, 128 values)", "best (character 5-grams, 28 bands of 5, exact check)")


def shingles(text: str) -> set[str]:
    return {text[k : k + 5] for k in range(max(len(text) - 4, 1))}


def documented(texts: list[str]) -> list[bool]:
    index, dropped = MinHashLSH(threshold=0.7, num_perm=128), []
    for number, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        for word in set(text.split()):
            sketch.update(word.encode())
        found = index.query(sketch)
        dropped.append(bool(found))
        if not found:
            index.insert(number, sketch)
    return dropped


def best(texts: list[str]) -> list[bool]:
    index, dropped = MinHashLSH(num_perm=140, params=(28, 5)), []
    for number, text in enumerate(texts):
        here = shingles(text)
        sketch = MinHash(num_perm=140)
        sketch.update_batch([s.encode() for s in here])
        alike = False
        for other in index.query(sketch):
            there = shingles(texts[other])
            shared = len(here & there)
            if shared >= 0.7 * (len(here) + len(there) - shared):
                alike = True
                break
        dropped.append(alike)
        index.insert(number, sketch)
    return dropped


def main(texts_file: str, setting: str, flags_file: str) -> None:
    with open(texts_file, encoding="utf-8") as file:
        texts = [json.loads(line) for line in file]
    cpu, wall = time.process_time(), time.perf_counter()
    dropped = (best if setting.startswith("best") else documented)(texts)
    spent = {"cpu": round(time.process_time() - cpu, 4), "wall": round(time.perf_counter() - wall, 4)}
    with open(flags_file, "w") as file:
        file.write("".join("1" if flag else "0" for flag in dropped))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"parts": {"deduplicate": spent}, "peak_mb": memory}))


if __name__ == "__main__":
    if sys.argv[1] == "settings":
        print(json.dumps({"settings": list(SETTINGS)}))
    else:
        main(*sys.argv[1:])
