"""An ONNX file as an embedder, through onnxruntime; SFace is one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_jax.embedders.base import WITH_FLIP, check_images, on_unit_sphere
from facenet_jax.errors import InputError, first_line, how_to_install
from facenet_jax.images.weights import SFACE, read_weights
from facenet_jax.runtime.cores import usable_cores
from facenet_jax.runtime.json_files import read_json

# The card next to an exported file; its version changes when a reader of the older one would be misled.
CARD_FORMAT, CARD_VERSION = "facenet-jax export", 1
_LAYOUTS = ("nchw", "nhwc")
_COLOURS = ("rgb", "bgr")
_BATCH = 32


@dataclass(frozen=True)
class OnnxInput:
    """How pixels become a network's input: (pixel - mean) * scale, in a layout and an order of colours.

    A network that takes uint8, as those that this project exports, gets RGB images as they are decoded.

    Attributes:
      size: (rows, columns); None: the file says it.
      layout: nchw or nhwc; None: the file says it.
      scale, mean: of pixels from 0 to 255. By default they become -1 to 1.
      colour: rgb or bgr.
      crop: how the faces that it expects are cut.
    """

    size: tuple[int, int] | None = None
    layout: str | None = None
    scale: float = 1 / 127.5
    mean: float = 127.5
    colour: str = "rgb"
    crop: str = "none"


# How the code of each project feeds its networks; docs/onnx_networks.md names the files and the sources.
PRESETS = {
    "sface": OnnxInput((112, 112), "nchw", scale=1.0, mean=0.0, colour="rgb", crop="similarity"),
    "insightface": OnnxInput((112, 112), scale=1 / 127.5, mean=127.5, colour="rgb", crop="similarity"),
    "insightface-mxnet": OnnxInput((112, 112), scale=1.0, mean=0.0, colour="rgb", crop="similarity"),
    "adaface": OnnxInput((112, 112), scale=1 / 127.5, mean=127.5, colour="bgr", crop="similarity"),
    "magface": OnnxInput((112, 112), scale=1 / 255, mean=0.0, colour="bgr", crop="similarity"),
    "facenet-pytorch": OnnxInput((160, 160), scale=1 / 128, mean=127.5, colour="rgb", crop="tight"),
}


def parse_onnx(text: str) -> tuple[Path, OnnxInput]:
    """`PATH[,preset=insightface][,size=112x112][,layout=nchw][,scale=0.0078][,mean=127.5][,colour=rgb][,crop=tight]`.

    Returns:
      The path, and the input: what the preset says, where there is one, but for what is given as well.

    Raises:
      InputError: a part that is not understood.
    """
    path, *parts = text.split(",")
    known: dict[str, Any] = {}
    preset = OnnxInput()
    for part in parts:
        key, equals, value = part.partition("=")
        try:
            if key == "preset" and value in PRESETS:
                preset = PRESETS[value]
            elif key == "size" and equals:
                rows, columns = (int(n) for n in value.lower().split("x"))
                known[key] = rows, columns
            elif key in ("scale", "mean") and equals:
                known[key] = float(value)
            elif (key, value.lower()) in {("layout", n) for n in _LAYOUTS} | {("colour", n) for n in _COLOURS}:
                known[key] = value.lower()
            elif key == "crop" and equals:
                known[key] = value
            else:
                raise ValueError
        except ValueError:
            raise InputError(
                f"onnx:{text}: {part!r} is not understood; after the path may come preset=NAME (one of "
                f"{', '.join(PRESETS)}), size=112x112, layout=nchw or nhwc, scale=0.00784, mean=127.5, colour=rgb or "
                "bgr, crop=similarity, divided by commas."
            ) from None
    return Path(path), replace(preset, **known)


class OnnxEmbedder:
    """A network in an ONNX file with one image input and one output of vectors.

    Attributes:
      flipped: whether the file itself takes the mean with the mirror image, as its card says.
      name, digest, size, crop, batch, remarks: see `Embedder`.
    """

    def __init__(self, model: bytes, name: str, how: OnnxInput, widen: bool = False, flipped: bool = False) -> None:
        """Opens it.

        Args:
          model: the file's bytes.
          name: of it.
          how: its input.
          widen: whether weights that are kept in int8 become float32 once, rather than with every image.
          flipped: see the attribute.

        Raises:
          InputError: onnxruntime is missing, the bytes are not an ONNX model, or its input cannot be worked out.
        """
        self.name = name + WITH_FLIP * flipped
        self.digest = hashlib.sha256(model).hexdigest() + repr(how)
        self.flipped = flipped
        self.remarks: list[str] = []
        self.crop = how.crop
        self._how = how
        self._session = _session(model, name, widen)
        inputs = self._session.get_inputs()
        if len(inputs) > 1 and find_spec("onnx"):
            self._session = _session(_used_inputs(model), name, widen)
            inputs = self._session.get_inputs()
        kinds = ("tensor(float)", "tensor(uint8)")
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in kinds:
            given = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise InputError(
                f"{name} takes {given or 'nothing'}; a network with one float32 or uint8 input of images is needed."
            )
        self._scales = inputs[0].type == "tensor(float)"
        if not self._scales and (how.scale, how.mean) != (OnnxInput.scale, OnnxInput.mean):
            raise InputError(f"{name} takes pixels as they are, and scales them itself; leave scale=… and mean=… out.")
        shape = inputs[0].shape
        self._layout = how.layout or _layout_of(shape, name)
        places = (2, 3) if self._layout == "nchw" else (1, 2)
        colours = shape[1 if self._layout == "nchw" else 3]
        if isinstance(colours, int) and colours != 3:
            raise InputError(f"{name} takes images of shape {shape}, not of 3 colours in layout {self._layout}.")
        fixed = tuple(shape[place] for place in places)
        if all(isinstance(side, int) for side in fixed):
            if how.size not in (None, fixed):
                raise InputError(f"{name} takes images of {fixed[0]}x{fixed[1]} pixels; leave size=… out or give that.")
            self.size: tuple[int, int] = fixed
        elif how.size is None:
            raise InputError(f"{name} takes images of any size; say which with size=112x112.")
        else:
            self.size = how.size
        self.batch = shape[0] if isinstance(shape[0], int) else _BATCH

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Embedder`."""
        check_images(images, self.size, self.name)
        parts: list[NDArray[np.float32]] = []
        feed = self._session.get_inputs()[0].name
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            short = self.batch - len(part) if isinstance(self._session.get_inputs()[0].shape[0], int) else 0
            pixels = np.pad(part, ((0, short), (0, 0), (0, 0), (0, 0)))
            pixels = pixels[..., ::-1] if self._how.colour == "bgr" else pixels
            taken: NDArray[Any] = pixels
            if self._scales:
                taken = (pixels.astype(np.float32) - np.float32(self._how.mean)) * np.float32(self._how.scale)
            if self._layout == "nchw":
                taken = taken.transpose(0, 3, 1, 2)
            try:
                output = self._session.run(None, {feed: np.ascontiguousarray(taken)})[0]
            except Exception as error:  # onnxruntime has errors of its own for each cause, under no common name
                raise InputError(f"{self.name} cannot be run on its images: {first_line(error)}.") from error
            parts.append(np.asarray(output).reshape(len(pixels), -1)[: len(part)])
        nothing = np.empty((0, 1), np.float32)
        return on_unit_sphere(np.concatenate(parts) if parts else nothing, self.name, self._remark)

    def _remark(self, remark: str) -> None:
        # Most networks leave the normalising to their user: one remark is enough, however many batches.
        if not self.remarks:
            self.remarks.append(f"{self.name} gives vectors that are not of norm 1; they were normalised.")


def open_onnx(path: Path, how: OnnxInput) -> OnnxEmbedder:
    """The embedder in a file.

    Raises:
      InputError: as `OnnxEmbedder`, the file cannot be read, or it is not what the card next to it describes.
    """
    try:
        model = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give an ONNX file as onnx:PATH.") from error
    card = _read_card(path, model)
    return OnnxEmbedder(model, f"onnx:{path}", how, flipped=card.get("flip") is True)


def open_sface() -> OnnxEmbedder:
    """SFace, 128-D, 99.4 % on LFW by its authors: the yardstick. Its weights come with the extra `align`.

    Raises:
      InputError: it is not installed.
    """
    model = read_weights(SFACE)
    if not find_spec("onnx"):
        raise InputError(f"SFace needs onnx and onnxruntime: {how_to_install('onnx', 'align')}.")
    return OnnxEmbedder(_with_any_batch(model), "sface", PRESETS["sface"], widen=True)


def _session(model: bytes, name: str, widen: bool) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(f"ONNX files need onnxruntime: {how_to_install('onnx')}.") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cores()  # its own choice is the machine's, whatever a container may use
    options.add_session_config_entry("session.disable_quant_qdq", str(int(widen)))
    try:
        return onnxruntime.InferenceSession(model, options, providers=onnxruntime.get_available_providers())
    except Exception as error:
        raise InputError(f"{name} is not an ONNX model that onnxruntime reads: {first_line(error)}.") from error


def _used_inputs(model: bytes) -> bytes:
    """A model without the inputs that nothing reads, such as those of SFace that were weights before it was int8."""
    import onnx

    graph = onnx.load_from_string(model)
    used = {name for node in graph.graph.node for name in node.input}
    made = {tensor.name for tensor in graph.graph.initializer} | {n for node in graph.graph.node for n in node.output}
    inputs = [value for value in graph.graph.input if value.name in used - made]
    del graph.graph.input[:]
    graph.graph.input.extend(inputs)
    return bytes(graph.SerializeToString())


def _with_any_batch(model: bytes) -> bytes:
    """SFace's published file says that it takes one image at a time; it takes any number."""
    import onnx

    graph = onnx.load_from_string(_used_inputs(model))
    del graph.graph.value_info[:]
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "images"
    return bytes(graph.SerializeToString())


def _layout_of(shape: list[Any], name: str) -> str:
    if shape[1] == 3 and shape[3] != 3:
        return "nchw"
    if shape[3] == 3 and shape[1] != 3:
        return "nhwc"
    raise InputError(f"{name} takes images of shape {shape}, which may be nchw or nhwc; say which with layout=….")


def card_path(file: Path) -> Path:
    """Where the card of an exported file lies: nn4.onnx.json next to nn4.onnx."""
    return file.with_name(file.name + ".json")


def _read_card(file: Path, data: bytes) -> dict[str, Any]:
    """The card of an exported file, empty where there is none.

    Raises:
      InputError: it is damaged, or of another file.
    """
    path = card_path(file)
    if not path.exists():
        return {}
    try:
        card: dict[str, Any] = read_json(path)
        known = card["format"] == CARD_FORMAT and isinstance(card["version"], int)
        version, digest = card["version"], card["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a card of an exported file; export again, or move it away.") from error
    if not known or version > CARD_VERSION:
        raise InputError(f"{path} is of a format that this version does not know; bring facenet-jax up to date.")
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError(
            f"{file} is not the file that its card {path.name} describes: its SHA-256 is another; export it again, or "
            "copy both again."
        )
    return card
