"""Parse every line and keep nothing: less than this no reader can cost. `python floor.py FILE`."""

import json
import sys
import time

try:
    import simdjson

    name, parse = "pysimdjson", simdjson.Parser().parse
except ImportError:  # no wheel for this Python
    import orjson

    name, parse = "orjson", orjson.loads

cpu, wall, lines = time.process_time(), time.perf_counter(), 0
with open(sys.argv[1], "rb") as file:
    for line in file:
        parse(line)
        lines += 1
spent = {"cpu": round(time.process_time() - cpu, 4), "wall": round(time.perf_counter() - wall, 4)}
print(json.dumps({"parts": {"parse": spent}, "parser": name, "lines": lines}))
