"""Training: the loop, checkpoints, and a whole run in its folder."""
