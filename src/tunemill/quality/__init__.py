"""Decide which rows may train: row rules, the published contract (Great Expectations) and the report on both."""
