"""Sweeps: a space of configs, checked as a whole before the first trial, and the trials.

``space`` lists and draws points as plain values; ``points`` turns values into checked runs; ``check`` does so for the
whole space; ``driver`` runs what can be run; ``table`` shows it. ``report`` reads what came of it from the sweep's
folder, for ``summary`` (text) and ``plots``; ``view`` and ``live`` are for who watches.
"""
