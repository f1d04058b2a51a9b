"""The compiled backend: kernels of one uniform signature in a table, walked by one driver on several threads.

Importing this imports no Numba: planning reads ``capabilities`` alone.
"""
