"""The compiled operations as PyTorch operators; they import Numba when the first CPU tensor arrives."""
