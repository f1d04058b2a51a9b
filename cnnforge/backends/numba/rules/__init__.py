"""Which nodes run by a compiled kernel, and its workspace: one file for each family of kernels.

Nothing here imports Numba or NumPy: planning reads these, and binding decides by them too.
"""
