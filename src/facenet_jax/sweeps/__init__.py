"""Runs sweeps: a file in configs/sweeps/ asks a question, several runs answer it, and one table shows the results."""
