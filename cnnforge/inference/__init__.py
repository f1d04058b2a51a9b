"""What is done with a trained run: evaluate it, predict with it, explain it, draw its report."""
