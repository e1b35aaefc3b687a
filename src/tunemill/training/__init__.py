"""Train a low-rank adapter on a frozen base model, in a process of its own that can be killed and goes on."""
