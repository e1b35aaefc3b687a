"""What a plan says of files that were never read to their end."""

import gzip
import json
from pathlib import Path

import pytest

from tunemill.home import PROJECT
from tunemill.sources import expand
from tunemill.sources.estimate import estimate
from tunemill.sources.settings import IngestSettings


def lines(count: int) -> bytes:
    rows = (
        {"prompt": f"question {n} " + "abc " * (n % 7), "completion": "answer " * (n % 5 + 1)} for n in range(count)
    )
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def of(path: Path, **given: object) -> object:
    return estimate([(path, "0" * 64)], IngestSettings.model_validate({"files": [str(path)], **given}))


def test_a_file_of_200_records_is_counted_exactly(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(199) + b"{broken\n")
    found = of(path)
    assert (found.records, found.rows, found.exact) == (200, 199, True)


@pytest.mark.parametrize("packed", [False, True])
def test_20000_records_are_estimated_within_a_tenth_and_not_called_exact(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(lines(20_000)) if packed else lines(20_000))
    found = of(path)
    assert not found.exact
    assert found.records == pytest.approx(20_000, rel=0.5 if packed else 0.1)


def test_the_sample_data_has_400_records_of_which_384_can_be_read() -> None:
    from tunemill.config import load

    settings = load(PROJECT / "pipeline_configs" / "quickstart.yaml").ingest
    found = estimate([(path, "0" * 64) for path in expand(settings.files, PROJECT)], settings)
    assert found.records == pytest.approx(400, rel=0.1)
    assert found.rows == pytest.approx(384, rel=0.1)
    assert found.tokens == pytest.approx(35_300, rel=0.1)  # 34,586 were counted in the 377 rows that validate keeps
