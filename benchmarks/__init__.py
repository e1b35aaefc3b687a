"""Measure what the README claims: one command a claim, peers side by side in one run."""
