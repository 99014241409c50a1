"""The networks map pixels to float32 points of norm 1, at any image size, dtype and embedding size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from facenet_jax.errors import InputError
from facenet_jax.models import NETWORKS, build, check_input_size
from facenet_jax.models.layers import Columns, Inception


def shapes(network, size, n=2):
    """(parameters, embeddings) as shapes and dtypes, without any memory for them."""
    pixels = jax.ShapeDtypeStruct((n, *size, 3), jnp.float32)
    return jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x), pixels)[::-1]


def faces(n=2, size=(32, 32), seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(-1, 1, (n, *size, 3)), jnp.float32)


def drawn(network, size=(32, 32)):
    """Parameters like the initial ones, drawn by NumPy, because compiling every layer's initialiser takes long."""
    rng = np.random.default_rng(0)

    def draw(leaf):
        if len(leaf.shape) == 1:
            return np.zeros(leaf.shape, np.float32)
        return rng.standard_normal(leaf.shape, np.float32) * np.float32((2 / np.prod(leaf.shape[-4:-1])) ** 0.5)

    return jax.tree.map(draw, shapes(network, size)[0])


@pytest.fixture(scope="module")
def tiny():
    network = build("nns2")
    return network, drawn(network), jax.jit(network.apply)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_parameters_and_embeddings_are_float32(name, dtype):
    parameters, embeddings = shapes(build(name, dtype=dtype), NETWORKS[name].input_size)
    assert (embeddings.shape, embeddings.dtype) == ((2, 128), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(parameters)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(("name", "dtype"), [("nn1", "float32"), ("nn4", "bfloat16"), ("nns1", "float32")])
def test_embeddings_lie_on_the_unit_sphere(name, dtype):
    network = build(name, dtype=dtype, embedding_size=64)
    embeddings = jax.jit(network.apply)(drawn(network), faces())
    assert embeddings.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(np.asarray(embeddings, np.float64), axis=-1), 1, atol=1e-6)


def test_bfloat16_is_close_to_float32(tiny):
    _, parameters, apply = tiny
    rough = jax.jit(build("nns2", dtype="bfloat16").apply)(parameters, faces())
    cosine = np.sum(np.asarray(rough) * np.asarray(apply(parameters, faces())), axis=-1)
    np.testing.assert_allclose(np.linalg.norm(np.asarray(rough, np.float64), axis=-1), 1, atol=1e-6)
    assert (cosine > 0.999).all()


@pytest.mark.parametrize("size", [64, 256, 512])
@pytest.mark.parametrize("name", ["nn1", "nn2", "nns1"])
def test_embedding_sizes(name, size):
    _, embeddings = shapes(build(name, embedding_size=size), NETWORKS[name].input_size)
    assert embeddings.shape == (2, size)


@pytest.mark.parametrize("size", [(32, 32), (33, 57), (96, 96), (140, 116)])
@pytest.mark.parametrize("name", NETWORKS)
def test_other_input_sizes(name, size):
    _, embeddings = shapes(build(name), size)
    assert embeddings.shape == (2, 128)


@pytest.mark.parametrize("name", ["nn2", "nn3", "nn4"])
def test_the_convolutional_networks_have_the_same_parameters_at_any_input_size(name):
    assert shapes(build(name), (32, 32))[0] == shapes(build(name), (160, 160))[0]


def test_nn3_is_nn2():
    assert build("nn3") == build("nn2")
    assert NETWORKS["nn3"].input_size == (160, 160)


def test_the_same_key_gives_the_same_parameters_whatever_the_pixels():
    module = Inception(Columns(4, 4, 8, 0, 0, "m", 4))
    first, again, other = (
        module.init(jax.random.key(seed), jnp.full((1, 4, 4, 8), value))
        for seed, value in ((0, 0.0), (0, 1.0), (1, 0.0))
    )
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert np.any(first["params"]["conv3x3"]["kernel"] != other["params"]["conv3x3"]["kernel"])


def test_the_same_parameters_and_pixels_give_the_same_bits(tiny):
    _, parameters, apply = tiny
    np.testing.assert_array_equal(apply(parameters, faces()), apply(parameters, faces()))


def test_an_embedding_depends_on_its_own_image_only(tiny):
    _, parameters, apply = tiny
    pair, other = faces(), faces().at[1].set(0.5)
    np.testing.assert_allclose(apply(parameters, pair)[0], apply(parameters, other)[0], atol=1e-6)
    assert np.abs(apply(parameters, pair)[1] - apply(parameters, other)[1]).max() > 1e-3


def test_gradients_are_finite_even_where_everything_is_zero(tiny):
    # Grey images (0) and biases of 0: every activation, L2 pooling and the embedding itself are zero.
    network, parameters, _ = tiny

    def loss(parameters, pixels):
        return jnp.sum(network.apply(parameters, pixels) ** 2 * jnp.arange(128))

    gradient = jax.jit(jax.grad(loss))
    for pixels in (jnp.zeros((2, 32, 32, 3)), faces()):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient(parameters, pixels)))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient(parameters, faces())))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("nn5", {}, "no network 'nn5'; did you mean 'nn"),
        ("NN2", {}, "did you mean 'nn2'"),
        ("nns-2", {}, "did you mean 'nns2'"),
        ("resnet", {}, "choose one of nn1, nn2, nn3, nn4, nns1, nns2"),
        ("nn1", {"embedding_size": 63}, "size 63 is out of range; choose from 64 to 512"),
        ("nn1", {"embedding_size": 513}, "size 513 is out of range"),
        ("nn1", {"dtype": "float16"}, "no compute dtype 'float16'; did you mean 'float32'|'bfloat16'"),
        ("nn2", {"five_by_five": "lowest"}, "did you mean 'lower'"),
        ("nn1", {"five_by_five": "none"}, "nn1 has no choice of 5x5 branches"),
        ("nns2", {"members": 3}, "size 128 cannot be shared by 3 members; choose a number that divides it"),
        ("nns2", {"members": 16}, "leaves each at least 16 dimensions"),
        ("nns2", {"members": 0}, "cannot be shared by 0 members"),
    ],
)
def test_bad_choices_are_refused_in_one_sentence(name, options, message):
    with pytest.raises(InputError, match=message) as raised:
        build(name, **options)
    assert "\n" not in str(raised.value)


def test_a_distance_in_an_ensemble_is_the_mean_of_its_members_distances():
    network = build("nns2", members=2)
    parameters = drawn(network)
    points = np.asarray(jax.jit(network.apply)(parameters, faces()), np.float64)
    assert points.shape == (2, 128)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-6)
    own = jax.jit(network.member.apply)
    members = [own({"params": parameters["params"][name]}, faces()) for name in ("member0", "member1")]
    distances = [float(np.sum((np.asarray(two[0], np.float64) - two[1]) ** 2)) for two in members]
    assert distances[0] != pytest.approx(distances[1], rel=1e-3)
    assert np.sum((points[0] - points[1]) ** 2) == pytest.approx(np.mean(distances), rel=1e-5)


def test_members_begin_with_other_parameters():
    parameters = jax.jit(build("nns2", members=2).init)(jax.random.key(0), faces())["params"]
    kernels = [parameters[name]["conv1"]["kernel"] for name in ("member0", "member1")]
    assert not np.any(kernels[0] == kernels[1])


@pytest.mark.parametrize("name", NETWORKS)
def test_an_input_that_is_too_small_is_refused(name):
    with pytest.raises(InputError, match="31x64 pixels is too small; make rows and columns at least 32"):
        shapes(build(name), (31, 64))
    check_input_size(32, 32)
    with pytest.raises(InputError, match="at least 32"):
        check_input_size(64, 8)


def test_pixels_must_be_float32_with_three_channels():
    network = build("nns2")
    for wrong in (jnp.zeros((1, 32, 32, 3), jnp.uint8), jnp.zeros((1, 32, 32, 1)), jnp.zeros((32, 32, 3))):
        with pytest.raises(AssertionError):
            jax.eval_shape(network.init, jax.random.key(0), wrong)


@pytest.mark.parametrize("name", NETWORKS)
def test_standardised_kernels_replace_response_normalisation(name):
    parameters, embeddings = shapes(build(name, norm="weight"), NETWORKS[name].input_size)
    plain, _ = shapes(build(name), NETWORKS[name].input_size)
    gains = [path for path, _ in jax.tree_util.tree_leaves_with_path(parameters) if path[-1].key == "gain"]
    convolutions = [p for p, leaf in jax.tree_util.tree_leaves_with_path(plain) if len(leaf.shape) == 4]
    assert embeddings.shape == (2, 128)
    assert len(gains) == len(convolutions)


def test_an_unknown_norm_is_refused():
    with pytest.raises(InputError, match=r"'batch'.*choose one of response, weight"):
        build("nn4", norm="batch")


def test_the_text_of_a_network_never_changes():
    lines = ["    # attributes", "    embedding_size = 64", "    five_by_five = 'lower'", "    norm = 'weight'"]
    assert repr(build("nn4", embedding_size=64, norm="weight")) == "\n".join(
        ["NN2(", *lines, "    dtype = 'float32'", ")"]
    )
    assert repr(build("nns1")).startswith("NNS1(\n    # attributes\n    embedding_size = 128\n    norm = 'response'")
