"""The plain backend: NumPy, one file per op family, written to be read. Every other backend is tested against it.

Nothing is imported here: planning reads ``capabilities`` and must not wait for NumPy.
"""
