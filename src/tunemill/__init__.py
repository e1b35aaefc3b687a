"""Tunemill: raw logs in, a verified model out."""

__version__ = "0.1.0"
