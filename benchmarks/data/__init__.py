"""Measure the data stages: `python -m benchmarks.data.run --help`."""
