"""text-dedup: `python text_dedup.py TEXTS SETTING FLAGS`, as in rensa.py; a command, whose process is measured."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = {
    "documented (five words)": [],
    "best (single words, 20 bands of 12)": ["--ngram", "1", "--num_perm", "240", "--b", "20", "--r", "12"],
}


def main(texts_file: str, setting: str, flags_file: str) -> None:
    # The script's folder comes first, where this very file would be taken for the package.
    sys.path.pop(0)
    import datasets

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open(texts_file, encoding="utf-8") as file, (folder / "rows.jsonl").open("w") as out:
            count = 0
            for line in file:
                out.write(f'{{"number": {count}, "text": {line.strip()}}}\n')
                count += 1
        command = [sys.executable, "-m", "text_dedup.minhash", "--path", "json", "--split", "train", "--column", "text"]
        command += ["--data_files", str(folder / "rows.jsonl"), "--output", str(folder / "kept"), "--num_proc", "2"]
        command += ["--cache_dir", str(folder / "cache"), "--threshold", "0.7", *SETTINGS[setting]]
        wall = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, cwd=folder, env={**os.environ, "HF_HOME": name})
        used, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - wall
        kept = set(datasets.load_from_disk(str(folder / "kept"))["number"])
    with open(flags_file, "w") as file:
        file.write("".join("0" if number in kept else "1" for number in range(count)))
    spent = {"cpu": round(used.ru_utime + used.ru_stime, 4), "wall": round(wall, 4)}
    print(json.dumps({"parts": {"deduplicate": spent}, "peak_mb": used.ru_maxrss // 1024}))


if __name__ == "__main__":
    if sys.argv[1] == "settings":
        print(json.dumps({"settings": list(SETTINGS)}))
    else:
        main(*sys.argv[1:])
