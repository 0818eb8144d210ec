from __future__ import annotations

import numpy as np
import pytest
import torch

from batchfuse.fusion.layers import DECODER_RADIUS, ENCODER_RADIUS
from batchfuse.fusion.prepacked import PrepackedNetwork
from batchfuse.fusion.res2netfuse import Res2NetFuse, Res2NetFuseConfig

CONFIGS = [
    Res2NetFuseConfig(shared, bias, skip)
    for shared in (False, True)
    for bias in (False, True)
    for skip in (True, False)
]
SIZE = 41
MIDDLE = SIZE // 2


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads that wait for each other are slow on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


def network_of(config=None, dtype=torch.float64):
    torch.manual_seed(3)
    network = Res2NetFuse(config).to(dtype)
    for weights in network.parameters():
        weights.abs_()  # so that no ReLU hides a way through the layers
    return network


def reach(before, after):
    """How far from the middle pixel two outputs differ, (y, x)."""
    changed = (before != after).any(dim=1)[0]
    rows, columns = (torch.nonzero(changed.any(dim=d)).flatten() - MIDDLE for d in (1, 0))
    assert int(rows.min()) == -int(rows.max())
    assert int(columns.min()) == -int(columns.max())
    return int(rows.max()), int(columns.max())


@pytest.mark.parametrize(
    ("shared", "bias", "count"),
    [(False, False, 100_784), (False, True, 101_217), (True, False, 89_264), (True, True, 89_617)],
)
def test_the_network_has_as_many_parameters_as_counted(shared, bias, count):
    network = Res2NetFuse(Res2NetFuseConfig(shared, bias))
    assert sum(p.numel() for p in network.parameters()) == count
    assert sum(t.numel() for t in network.state_dict().values()) == count


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_radii_of_the_layers_are_the_measured_receptive_field(config):
    network = network_of(config)
    image = torch.rand(1, 1, SIZE, SIZE, dtype=torch.float64)
    other = image.clone()
    other[..., MIDDLE, MIDDLE] += 1
    features = network.encode(image)
    assert reach(features, network.encode(other)) == (ENCODER_RADIUS, ENCODER_RADIUS)
    altered = features.clone()
    altered[:, :, MIDDLE, MIDDLE] += 1
    assert reach(network.decode(features), network.decode(altered)) == (DECODER_RADIUS, DECODER_RADIUS)
    whole = ENCODER_RADIUS + DECODER_RADIUS
    assert reach(network(image), network(other)) == (whole, whole)


def test_features_are_never_negative():
    torch.manual_seed(0)
    assert float(Res2NetFuse().encode(torch.rand(1, 1, 30, 30)).min()) >= 0


def test_the_skip_adds_the_encoders_features_to_the_blocks():
    image = torch.rand(1, 1, 20, 20, dtype=torch.float64)
    with_skip, without = network_of(), network_of(Res2NetFuseConfig(skip=False))
    shallow = torch.relu(with_skip.encoder["conv2"](torch.relu(with_skip.encoder["conv1"](image))))
    assert torch.equal(with_skip.encode(image), shallow + without.encode(image))


def test_the_block_is_equation_4():
    network = network_of()
    features = torch.rand(1, 64, 9, 9, dtype=torch.float64)
    block = network.block
    x1, x2, x3, x4 = torch.relu(block.entry(features)).split(16, dim=1)

    def f(number, x):
        layers = block.groups[f"group{number}"]
        return torch.relu(layers["second"](torch.relu(layers["first"](x))))

    y2 = f(2, x2)
    y3 = f(3, x3 + y2)
    y4 = f(4, x4 + y3)
    assert torch.equal(block(features), torch.relu(block.exit(torch.cat([x1, y2, y3, y4], dim=1))))


def test_without_biases_the_network_scales_with_its_image():
    network = network_of()
    image = torch.rand(1, 1, 24, 24, dtype=torch.float64)
    for scale in (1e-6, 0.05, 7.0):
        np.testing.assert_allclose(network(image * scale), network(image) * scale, rtol=1e-12)


def test_a_black_image_stays_black():
    assert not Res2NetFuse()(torch.zeros(1, 1, 16, 16)).any()


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("shape", [(40, 37), (1, 1), (64, 5)])
def test_prepacked_weights_give_what_the_plain_network_gives(config, shape):
    torch.manual_seed(1)
    network = Res2NetFuse(config)
    images = torch.rand(2, 1, *shape)
    packed = PrepackedNetwork(network)
    nowhere = (False, False, False, False)
    features = network.encode(images)
    torch.testing.assert_close(packed.encode(images, nowhere), features, rtol=0, atol=1e-6)
    torch.testing.assert_close(packed.decode(features), network.decode(features), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sides", range(16))
def test_cut_sides_lose_their_8_wrong_pixels_and_no_other(sides):
    cut = tuple(bool(sides >> side & 1) for side in range(4))
    top, bottom, left, right = (8 * side for side in cut)
    torch.manual_seed(1)
    network = Res2NetFuse()
    images = torch.rand(1, 1, 33, 29)
    whole = network.encode(images)[:, :, top : 33 - bottom, left : 29 - right]
    assert torch.equal(network.encode(images, cut), whole)
    torch.testing.assert_close(PrepackedNetwork(network).encode(images, cut), whole, rtol=0, atol=1e-6)


def test_a_configuration_goes_through_json_and_refuses_nonsense():
    config = Res2NetFuseConfig(shared=True, bias=True, skip=False)
    assert Res2NetFuseConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="bias of the network is 1"):
        Res2NetFuseConfig.from_json({"shared": False, "bias": 1, "skip": True})
