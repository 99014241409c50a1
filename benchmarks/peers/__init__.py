"""Peers: other projects' code, run in an environment of its own."""
