from __future__ import annotations

import hashlib
import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from batchfuse.errors import WeightsError
from batchfuse.fusion.res2netfuse import Res2NetFuse, Res2NetFuseConfig
from batchfuse.fusion.shipped import SHIPPED, weights_checksum, weights_path
from batchfuse.fusion.weights import load_weights, save_weights


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network = Res2NetFuse()
    path = tmp_path / "mine.safetensors"
    save_weights(network, path, {"seed": 0, "images": ["ä.png"]})
    return network, path


def refused(path, match):
    with pytest.raises(WeightsError, match=match) as caught:
        load_weights(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_load_and_say_how_they_were_made(name):
    weights = load_weights(name)
    assert weights.config == Res2NetFuseConfig(bias=name == "res2netfuse-paper")
    assert weights.made["images"][0]["sha256"]
    assert weights.made["figures"]["psnr"] > 45
    card = weights_path(name).with_suffix(".md").read_text(encoding="utf-8")
    assert weights_checksum(name) in card


@pytest.mark.parametrize("config", [Res2NetFuseConfig(), Res2NetFuseConfig(shared=True, bias=True)], ids=str)
def test_saved_weights_come_back_with_their_configuration(tmp_path, config):
    network = Res2NetFuse(config)
    save_weights(network, tmp_path / "w.safetensors", {"seed": 7})
    weights = load_weights(tmp_path / "w.safetensors")
    assert (weights.config, weights.made) == (config, {"seed": 7})
    image = torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        assert torch.equal(weights.network()(image), network(image))


def test_the_loaded_network_is_for_inference(saved):
    network = load_weights(saved[1]).network()
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_saving_twice_gives_the_same_bytes(saved, tmp_path):
    network, path = saved
    save_weights(network, tmp_path / "again.safetensors", {"images": ["ä.png"], "seed": 0})
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_the_checksum_is_that_of_the_file(saved):
    path = saved[1]
    assert weights_checksum(path) == weights_checksum(str(path))
    assert weights_checksum(path) == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".ckpt", ".pkl", ".PTH"])
def test_a_pickled_checkpoint_is_refused_by_its_name_even_if_absent(suffix):
    refused(f"models/mine{suffix}", r"mine\.\w+ is a pickled checkpoint.*safetensors\.torch\.save_file")


def test_a_pickled_checkpoint_is_refused_by_its_bytes(tmp_path):
    for name, write in (
        ("zip.safetensors", lambda p: torch.save({}, p)),
        ("old.safetensors", lambda p: p.write_bytes(pickle.dumps({"a": [1]}))),
    ):
        write(tmp_path / name)
        refused(tmp_path / name, "is a pickled checkpoint.*can run any code")


def test_a_pickle_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    path = tmp_path / "trap.safetensors"
    path.write_bytes(pickle.dumps(Trap()))
    refused(path, "pickled")
    assert not (tmp_path / "sprung").exists()


def test_an_unknown_name_is_refused_with_the_nearest():
    refused("res2netfus", "did you mean 'res2netfuse'")


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "none.safetensors", r"none\.safetensors does not exist")


def test_a_folder_is_refused(tmp_path):
    refused(tmp_path, "does not exist|is not a")


@pytest.mark.parametrize("content", [b"", b"no weights at all", b"\x10\0\0\0\0\0\0\0{"])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    refused(path, r"odd\.safetensors (is not a safetensors file|can't be read)")


def test_a_truncated_file_is_refused(saved):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:-1000])
    refused(path, r"mine\.safetensors can't be read")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"res2netfuse": "{"}, {"res2netfuse": "[]"}])
def test_foreign_safetensors_are_refused(tmp_path, metadata):
    save_file({"a": torch.zeros(3)}, tmp_path / "foreign.safetensors", metadata=metadata)
    refused(tmp_path / "foreign.safetensors", "holds no weights of Res2NetFuse")


@pytest.mark.parametrize(
    "alter",
    [
        lambda t: t.pop("decoder.conv4.weight"),
        lambda t: t.update(extra=torch.zeros(1)),
        lambda t: t.update({"block.exit.weight": torch.zeros(64, 32, 1, 1)}),
    ],
)
def test_wrong_shapes_are_refused_with_the_shapes(saved, alter):
    tensors = _altered(saved[1], alter)
    refused(saved[1], r"does not fit Res2NetFuse: .* has shape .*, wanted .*\(1 tensors differ\)")
    assert tensors


def test_weights_that_are_not_numbers_are_refused(saved):
    _altered(saved[1], lambda t: t["encoder.conv1.weight"].fill_(float("nan")))
    refused(saved[1], r"damaged: encoder\.conv1\.weight")


@pytest.mark.parametrize("place", [-1, -50_000, -400_000])
def test_one_wrong_bit_in_the_tensors_is_refused(saved, place):
    content = bytearray(saved[1].read_bytes())
    content[place] ^= 1
    saved[1].write_bytes(content)
    refused(saved[1], r"mine\.safetensors is damaged: .* checksum .*train anew")


def test_one_wrong_bit_in_the_description_is_refused(saved):
    content = saved[1].read_bytes()
    assert content.count(b'seed\\": 0') == 1
    saved[1].write_bytes(content.replace(b'seed\\": 0', b'seed\\": 1'))
    refused(saved[1], r"mine\.safetensors is damaged")


def test_weights_that_others_wrote_without_a_checksum_load(saved, tmp_path):
    tensors = load_file(saved[1])
    about = {"architecture": "res2netfuse", "config": Res2NetFuseConfig().to_json()}
    save_file(tensors, tmp_path / "theirs.safetensors", metadata={"res2netfuse": json.dumps(about)})
    assert load_weights(tmp_path / "theirs.safetensors").made == {}


def test_a_configuration_of_another_version_is_refused(tmp_path):
    about = '{"architecture": "res2netfuse", "config": {"groups": 8}}'
    save_file({"a": torch.zeros(3)}, tmp_path / "next.safetensors", metadata={"res2netfuse": about})
    refused(tmp_path / "next.safetensors", "this version does not know")


def test_a_place_that_can_not_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="can't be written"):
        save_weights(Res2NetFuse(), tmp_path / "file" / "w.safetensors", {})


def _altered(path, alter):
    """Rewrites a weights file with its tensors altered and its metadata kept."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    alter(tensors)
    save_file(tensors, path, metadata=metadata)
    return tensors
