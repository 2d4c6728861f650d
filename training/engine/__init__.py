"""The training loop and all that a run keeps, logs and checks."""
