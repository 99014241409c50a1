"""Exports a checkpoint for other runtimes: an ONNX or StableHLO file, and a card next to it."""
