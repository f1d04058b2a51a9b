"""Training on an NVIDIA GPU: our own CUDA kernels, and cuBLAS, through CuPy. CuPy is imported in ``cuda.py`` alone.

An op file says what is launched and where; what runs is in ``source/``.
"""
