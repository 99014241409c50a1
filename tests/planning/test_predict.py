"""The three limits of a step calculated by hand, and the command."""

import json

import pytest

from facenet_jax.cli import main
from facenet_jax.errors import InputError
from facenet_jax.planning.chips import CHIPS, Chip, find_chip, slices_of, topology
from facenet_jax.planning.hlo import Collective
from facenet_jax.planning.host import measure_host
from facenet_jax.planning.predict import LATENCY, Assumptions, predict
from facenet_jax.planning.program import Program
from tiny import TINY

CHIP = Chip("x", peak=100.0, peak_float32=50.0, exact=10.0, memory=1e3, bandwidth=20.0, link=4.0, domain=4, network=1.0)


def program(**values):
    defaults = {
        "compiler": "",
        "devices": 8,
        "batch": 90,
        "rows": 96,
        "chunk": 12,
        "embedding_size": 64,
        "members": 1,
        "dtype": "float32",
        "parameters": 1,
        "multiply_adds": 1,
        "arithmetic": 200.0,
        "loss_arithmetic": 5.0,
        "memory": 1,
        "state": 1,
        "traffic": 160,
        "collectives": (Collective("all-reduce", 40, 8),),
    }
    return Program(**defaults | values)


def test_the_limits():
    found = predict(program(), CHIP, Assumptions(utilisation=0.5, bandwidth_share=0.25))
    assert found.arithmetic_seconds == 200 / (50 * 0.5) + 5 / (10 * 0.5)
    assert found.memory_seconds == 160 / (20 * 0.25)
    # Four chips in a domain: 2 x 40 x 3/4 within, then a quarter of it, 2 x 10 x 1/2, to the like chip in the other.
    assert found.interconnect_seconds == pytest.approx(60 / (4 * 0.25) + 10 / (1 * 0.25) + LATENCY)
    assert (found.bound, found.seconds) == ("interconnect", found.interconnect_seconds)
    assert found.images_per_second == 90 / found.seconds
    assert predict(program(dtype="bfloat16"), CHIP, Assumptions(0.5, 0.25)).arithmetic_seconds == 200 / 50 + 1


def test_one_domain_sends_what_a_ring_sends():
    for kind in ("all-gather", "reduce-scatter", "all-reduce"):
        ring = Collective(kind, 4000, 4, times=3)
        found = predict(program(collectives=(ring,)), CHIP, Assumptions(1.0, 1.0))
        assert found.interconnect_seconds == pytest.approx(ring.sent / CHIP.link + 3 * LATENCY)


def test_topologies():
    assert [topology(CHIPS["v5e"], n) for n in (1, 4, 8, 128, 256)] == [
        *("v5e:1x1", "v5e:2x2", "v5e:2x4", "v5e:8x16", "v5e:16x16")
    ]
    assert [topology(CHIPS["v5p"], n) for n in (4, 8, 64, 1024)] == [
        "v5p:2x2x1",
        "v5p:2x2x2",
        "v5p:4x4x4",
        "v5p:8x8x16",
    ]
    for chips in (48, 512):
        with pytest.raises(InputError, match="power of two, within one pod"):
            topology(CHIPS["v5e"], chips)
    with pytest.raises(InputError, match="h100 is not one"):
        topology(CHIPS["h100"], 8)
    with pytest.raises(InputError, match="v4, v5e"):
        find_chip("v99")


def test_slices():
    assert [slices_of(CHIPS["v5e"], n) for n in (1, 256, 257, 1024)] == [1, 1, 2, 4]
    assert [slices_of(CHIPS[chip], 64) for chip in ("h100", "v5p")] == [8, 1]
    assert slices_of(CHIPS["v5e"], 32, 2) == 2
    assert [topology(CHIPS["v5e"], n, s) for n, s in ((32, 2), (1024, 4), (2, 2))] == [
        *("v5e:4x4", "v5e:16x16", "v5e:1x1")
    ]
    for chips, slices in ((1024, 2), (32, 3), (1, 2)):
        with pytest.raises(InputError, match=f"--slices={slices}: {chips:,} chips of v5e need"):
            slices_of(CHIPS["v5e"], chips, slices)


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")  # its program is fused as a user's is
    file = tmp_path / "plan.json"
    batch = ["--config.mesh.data=0", "--config.batch.size=30", f"--out={file}"]
    assert main(["plan", "--config=quickstart", "--chip=v5e", "--chips=8", "--images=1e6", *TINY, *batch]) == 0
    printed = capsys.readouterr().out
    assert "30 faces, 4 rows on each of 8 v5e, 2 of all masked" in printed
    assert "XLA for 8 simulated CPU devices" in printed
    found = json.loads(file.read_text())
    sent = {c["what"]: c for c in found["program"]["collectives"]}
    assert sent["embeddings"]["size"] == sent["gradient of the embeddings"]["size"] == 32 * 64 * 4
    assert sent["gradient of the parameters"]["size"] == 4 * found["program"]["parameters"]
    assert sent["gradient of the parameters"]["kind"] == "all-reduce"
    # Parameters and AdaGrad's sums are both float32, and on every device.
    assert found["program"]["state"] == pytest.approx(8 * found["program"]["parameters"], rel=0.01)
    # Forward and both gradients, except the input gradient of the first layer and what falls on padding.
    by_hand = 6 * found["program"]["multiply_adds"] * 4
    assert 0.5 * by_hand < found["program"]["arithmetic"] < 1.5 * by_hand
    assert found["images_per_second"] == pytest.approx(30 / max(found["seconds"].values()))
    assert found["chip_hours"] == pytest.approx(8 * 1e6 / found["images_per_second"] / 3600)


def test_bad_input_is_refused(capsys):
    for arguments, words in (
        (["--chip=v99"], "not in the table"),
        (["--chip=v5e", "--chips=0"], "from 1 up"),
        (["--chip=v5e", "--chips=8", "--slices=3"], "the same number of chips in each"),
        (["--chip=v5e", "--slices=-1"], "from 1 up"),
        (["--chip=cpu", "--compiler=tpu"], "leave it out"),
        (["--chip=h100", "--compiler=tpu"], "h100 is not one"),
        (["--chip=v5e", "--config.los.margin=1"], "did you mean"),
        (
            ["--chip=v5e", "--chips=8", "--config.mesh.data=4"],
            "config.mesh.data=4 with config.mesh.fsdp=1 takes 4 chips",
        ),
        (["--chip=v5e", "--config.model.input_size=(8,8)"], "at least 32"),
    ):
        assert main(["plan", "--config=nns2", *arguments]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("images", ["nan", "inf", "-1e6", "0", "many"])
def test_images_are_a_finite_number_above_0(images, capsys):
    with pytest.raises(SystemExit) as left:
        main(["plan", "--config=nns2", "--chip=v99", f"--images={images}"])
    assert left.value.code == 2
    assert "argument --images" in capsys.readouterr().err


def test_this_machine_has_rates():
    chip = measure_host(2)
    assert min(chip.peak, chip.exact, chip.bandwidth, chip.link) > 1e6
    assert chip.domain == 2
