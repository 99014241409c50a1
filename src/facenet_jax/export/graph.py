"""Builds ONNX graphs: nodes, weights, and names of intermediate values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike, NDArray
from onnx import helper, numpy_helper

# Old enough for runtimes of 2022, such as those of phones; onnxruntime reads it from 1.12 on.
OPSET, IR_VERSION = 17, 8


class Graph:
    """Nodes in the order in which they run; a tensor is given by its name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, NDArray[Any]] = {}
        self._dtypes: dict[str, np.dtype[Any]] = {}

    def input(self, name: str, dtype: DTypeLike) -> str:
        """Declares an input of the model; returns its name."""
        self._dtypes[name] = np.dtype(dtype)
        return name

    def weight(self, name: str, value: ArrayLike, dtype: DTypeLike = np.float32) -> str:
        """Adds an array to the file, unless one of this name is there; returns its name."""
        self._weights.setdefault(name, np.ascontiguousarray(np.asarray(value), np.dtype(dtype)))
        self._dtypes[name] = np.dtype(dtype)
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Appends a node, whose output has the dtype of its first input; returns the output's name."""
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        self._dtypes[output] = self._dtypes[inputs[0]]
        return output

    def cast(self, tensor: str, dtype: DTypeLike) -> str:
        """The tensor in a dtype: itself, if it has that already, or a cast of it."""
        wanted = np.dtype(dtype)
        if self._dtypes[tensor] == wanted:
            return tensor
        output = f"{tensor}/{wanted.name}"
        if output not in self._dtypes:
            self.add("Cast", [tensor], output, to=helper.np_dtype_to_tensor_dtype(wanted))
            self._dtypes[output] = wanted
        return output

    def dtype(self, tensor: str) -> np.dtype[Any]:
        """The dtype of a tensor."""
        return self._dtypes[tensor]

    def rename(self, tensor: str, name: str) -> str:
        """Renames the output of the last node."""
        assert list(self._nodes[-1].output) == [tensor]
        self._nodes[-1].output[:] = [name]
        self._nodes[-1].name = name
        self._dtypes[name] = self._dtypes[tensor]
        return name

    def model(self, inputs: list[tuple[str, list[int | str]]], outputs: list[tuple[str, list[int | str]]]) -> Any:
        """The whole model, checked by onnx.

        Args:
          inputs, outputs: (name, shape), with a name for a dimension of any size.
        """

        def declared(tensors: list[tuple[str, list[int | str]]]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(self._dtypes[name]), shape)
                for name, shape in tensors
            ]

        weights = [numpy_helper.from_array(value, name) for name, value in self._weights.items()]
        graph = helper.make_graph(self._nodes, "facenet_jax", declared(inputs), declared(outputs), weights)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="facenet-jax",
        )
        onnx.checker.check_model(model, full_check=True)
        return model
