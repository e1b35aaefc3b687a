"""Run other engines on the same normalised texts; each script runs in an environment of its own, without Tunemill."""
