"""Quantises an ONNX model to weights and activations of one byte, calibrated on faces, by onnxruntime's tools."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.export.layers import JOINED, SUMS
from facenet_jax.export.onnx import INPUT, MIRROR

# Operators that compute in bytes. Local response normalisation, L2 pooling and L2 normalisation stay float, as does
# each network's last layer: distances are small differences of its outputs.
_OPERATORS = ["Conv", "Gemm", "Relu", "MaxPool", "Concat", "Transpose"]


def to_int8(model: Any, faces: NDArray[np.uint8]) -> Any:
    """Quantises statically: a scale for each output channel of a weight, and one for each activation, by its extremes.

    Weights have seven bits: with eight, processors without an instruction for products of bytes (x86 before VNNI) would
    saturate. So one file gives the same embeddings on all.

    Args:
      model: of `to_onnx`, in float32.
      faces: uint8 [n, rows, columns, 3] that extremes are taken over.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quant_pre_process, quantize_static

    class Faces(CalibrationDataReader):
        left = iter(faces)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            face = next(self.left, None)
            return None if face is None else {INPUT: face[None]}

    nodes = model.graph.node
    normalised = {node.input[0] for node in nodes if node.op_type == "ReduceSumSquare"}
    in_float = [node.name for node in nodes if node.op_type == "Gemm" and node.output[0] in normalised]
    in_float += [node.name for node in nodes if node.name.endswith(JOINED)]
    in_float += [node.name for node in nodes if node.name.endswith(SUMS) or node.name.startswith(f"{MIRROR}/")]
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # silences onnxruntime's own messages
    try:
        with tempfile.TemporaryDirectory() as folder:
            ready, made = Path(folder) / "ready.onnx", Path(folder) / "made.onnx"
            quant_pre_process(model, ready, skip_optimization=True, skip_symbolic_shape=True)
            quantize_static(
                ready,
                made,
                Faces(),
                op_types_to_quantize=_OPERATORS,
                nodes_to_exclude=in_float,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            quantised = onnx.load(made)
    finally:
        logging.getLogger().setLevel(level)
    onnx.checker.check_model(quantised, full_check=True)
    return quantised
