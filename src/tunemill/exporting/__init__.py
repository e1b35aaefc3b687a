"""Turn an adapter into files that ship, and prove that each says what the one before it said."""
