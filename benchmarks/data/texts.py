"""Write the normalised conversations of a file, one JSON string a line: `python -m benchmarks.data.texts FILE`.

In a process of its own: what a parent once held counts as the peak of a child that it starts later.
"""

import json
import sys
from pathlib import Path

from benchmarks.data.stages import rows_of
from tunemill.dedup.text import conversation_text, normalise_all

if __name__ == "__main__":
    path = Path(sys.argv[1])
    every = normalise_all(map(conversation_text, rows_of(path)))
    path.with_suffix(".texts").write_text("".join(json.dumps(text) + "\n" for text in every))
    print(json.dumps({"texts": len(every)}))
