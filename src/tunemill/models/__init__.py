"""Bring a base model from where it lies to one plain checkpoint, and turn conversations into its tokens."""
