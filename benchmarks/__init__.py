"""How fast, how small, how soon: cnnforge beside PyTorch, one script per question.

Each script stands by itself: ``python -m benchmarks.train_step``, or ``python benchmarks/train_step.py``. PyTorch is
used where it is installed; without it every script still shows our own side.
"""
