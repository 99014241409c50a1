"""Sweeps: one question, several runs, one table. A file in configs/sweeps/ asks it, and says which runs answer it."""
