"""ONNX files compute what the Flax module does, for all six networks and an ensemble, at any batch size."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facenet_jax import models
from facenet_jax.models.networks import scale_pixels

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from facenet_jax.export.onnx import to_onnx  # noqa: E402

# Even and odd sizes, so that rows and columns need different paddings; small ones, because fully connected layers grow
# with them. NN3 is NN2 with another input size, and is tried with another option.
CASES = {
    "nn1": ("nn1", (32, 33), {}),
    "nn2": ("nn2", (47, 32), {}),
    "nn3": ("nn3", (40, 40), {"embedding_size": 64}),
    "nn4": ("nn4", (33, 38), {}),
    "nns1": ("nns1", (35, 32), {}),
    "nns2": ("nns2", (41, 58), {}),
    "nns2, standardised": ("nns2", (41, 58), {"norm": "weight"}),
    "nns2, two members": ("nns2", (32, 33), {"norm": "weight", "members": 2}),
}


def case(which):
    """A network, random parameters that keep activations in range, and images that differ much."""
    name, size, options = CASES[which]
    network = models.build(name, **options)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *size, 3)))["params"]
    rng = np.random.default_rng(2)

    def draw(path, x):
        if path[-1].key == "gain":
            return 1 + 0.1 * rng.standard_normal(x.shape, np.float32)
        return rng.standard_normal(x.shape, np.float32) * (0.1 if x.ndim == 1 else (2 / np.prod(x.shape[:-1])) ** 0.5)

    params = jax.tree_util.tree_map_with_path(draw, shapes)
    noise = rng.integers(0, 256, (*size, 3))
    ramp = np.linspace(0, 255, noise.size).reshape(noise.shape)
    images = np.stack([noise, ramp, 255 * (noise > 127), np.zeros_like(noise)]).astype(np.uint8)
    return network, params, images


def flax(network, params, images):
    return np.asarray(jax.jit(network.apply)({"params": params}, scale_pixels(images)))


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", CASES)
def test_it_computes_what_the_flax_module_does(name):
    network, params, images = case(name)
    expected = flax(network, params, images)
    assert np.ptp(expected, axis=0).max() > 0.01  # several images, several points
    opened = session(to_onnx(network, params, images.shape[1:3]))
    for faces, points in ((images[:3], expected[:3]), (images[3:], expected[3:])):
        (found,) = opened.run(["embeddings"], {"images": faces})
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, points, atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_float16_halves_the_file_and_changes_little():
    network, params, images = case("nns2")
    whole, half = (
        to_onnx(network.clone(dtype=dtype), params, images.shape[1:3]) for dtype in (jnp.float32, jnp.float16)
    )
    assert half.ByteSize() < 0.62 * whole.ByteSize()  # the last layer stays float32
    (found,), (expected,) = (session(model).run(None, {"images": images}) for model in (half, whole))
    assert found.dtype == np.float32
    assert 1e-7 < np.abs(found - expected).max() < 2e-3


def test_last_layers_and_points_of_an_ensemble_stay_float_in_int8():
    from facenet_jax.export.int8 import to_int8

    network, params, images = case("nns2, two members")
    expected = flax(network, params, images)
    model = to_int8(to_onnx(network, params, images.shape[1:3]), images)
    (found,) = session(model).run(["embeddings"], {"images": images})
    np.testing.assert_allclose(found, expected, atol=0.1)
    inputs = {node.name: list(node.input) for node in model.graph.node}
    assert inputs["member1/fc2"][1:] == ["member1/fc2/kernel", "member1/fc2/bias"]
    assert inputs["member1/fc1/product"][1] != "member1/fc1/product/kernel"
    assert inputs["join/joined"] == ["member0/L2", "member1/L2"]


def test_a_layer_without_an_onnx_form_is_named():
    import flax.linen as nn

    from facenet_jax.models.layers import Flatten

    class Other(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(4, name="new")(Flatten(name="flat")(x))

    with pytest.raises(AssertionError, match=re.escape("new: there is no ONNX form of Dense")):
        to_onnx(Other(), {"new": {"kernel": np.ones((3072, 4)), "bias": np.ones(4)}}, (32, 32))


def test_operations_between_layers_are_not_lost():
    import flax.linen as nn

    from facenet_jax.models.layers import Dense, Flatten

    class Between(nn.Module):
        @nn.compact
        def __call__(self, x):
            return Dense(4, name="fc")(Flatten(name="flat")(x) * 2)

    with pytest.raises(AssertionError, match="fc takes what no layer gave"):
        to_onnx(Between(), {"fc": {"kernel": np.ones((3072, 4)), "bias": np.ones(4)}}, (32, 32))
