"""A checkpoint as a file that other runtimes read: ONNX, StableHLO, and a card beside it."""
