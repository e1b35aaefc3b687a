"""What each step does: one file per stage, in the stage's own words."""
