from __future__ import annotations

import itertools
import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

from batchfuse import fuse
from batchfuse.cli import commands
from batchfuse.errors import RecipeError, SourceError, TrainingError, WeightsError
from batchfuse.fusion.fuser import load_fuser
from batchfuse.fusion.prepacked import PrepackedNetwork
from batchfuse.fusion.res2netfuse import Res2NetFuse, Res2NetFuseConfig
from batchfuse.fusion.rules import rule_of
from batchfuse.fusion.weights import load_weights
from batchfuse.geometry.tiling import Tiling
from batchfuse.training import checkpoint
from batchfuse.training.checkpoint import checkpoint_path
from batchfuse.training.loss import loss_of, parts, psnr, ssim
from batchfuse.training.mean import WeightsMean
from batchfuse.training.photographs import read_photograph
from batchfuse.training.settings import PRESETS, Settings
from batchfuse.training.trainer import train, trained


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads that wait for each other are slow on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(shape=(60, 70), seed=0):
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 120 + 60 * np.sin(y / 5) * np.cos(x / 7) + 50 * (x > y) + random.normal(0, 4, shape)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture
def photograph(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def ssim_by_hand(x, y):
    """The mean structural similarity written out window by window (metrics.md, section 1)."""
    t = np.arange(-5, 6)
    g = np.exp(-(t**2) / 4.5)
    window = np.outer(g, g) / g.sum() ** 2
    px, py = (np.pad(a, 5, mode="edge") for a in (x, y))
    values = []
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            a, b = px[i : i + 11, j : j + 11], py[i : i + 11, j : j + 11]
            ma, mb = (window * a).sum(), (window * b).sum()
            va, vb = (window * a * a).sum() - ma**2, (window * b * b).sum() - mb**2
            cov = (window * a * b).sum() - ma * mb
            values.append(
                (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
            )
    return np.mean(values)


def tensors(*arrays):
    return [torch.from_numpy(a)[None, None] for a in arrays]


def test_ssim_is_the_one_of_the_figures():
    x, y = picture((21, 17)) / 255, picture((21, 17), seed=1) / 255
    assert float(ssim(*tensors(x, y))) == pytest.approx(ssim_by_hand(x, y), abs=1e-12)


def test_ssim_averages_over_a_batch():
    x, y, z = tensors(*(picture((21, 17), seed=s) / 255 for s in range(3)))
    both = ssim(torch.cat([x, y]), torch.cat([z, z]))
    assert float(both) == pytest.approx((float(ssim(x, z)) + float(ssim(y, z))) / 2, abs=1e-12)


def test_equal_images_have_no_loss():
    (x,) = tensors(picture() / 255)
    assert float(loss_of(*parts(x, x), 300)) == pytest.approx(0, abs=1e-12)
    assert math.isinf(float(psnr(x, x)))


def test_the_loss_weighs_the_pixels():
    x, y = tensors(picture() / 255, picture(seed=1) / 255)
    mse = float(((x - y) ** 2).mean())
    assert float(loss_of(*parts(x, y), 7)) == pytest.approx(7 * mse + 1 - float(ssim(x, y)), rel=1e-12)
    assert float(psnr(x, y)) == pytest.approx(10 * math.log10(1 / mse), rel=1e-12)


def test_the_learning_rate_warms_up_and_falls_to_nothing():
    rates = [Settings(iterations=2000, learning_rate=1.0).rate(i) for i in range(2000)]
    assert rates[0] == 0.01
    assert rates[99] == rates[100] == 1
    assert all(a > b for a, b in itertools.pairwise(rates[100:]))
    assert rates[-1] < 1e-5


def test_the_pixel_weight_rises_exponentially_from_1_to_300():
    weights = [Settings(iterations=2000).pixel_weight_at(i) for i in range(2000)]
    assert (weights[0], weights[-1]) == (1, 300)
    ratios = np.divide(weights[1:], weights[:-1])
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-12)


def test_the_loss_falls_and_the_file_says_how_it_was_made(photograph, tmp_path):
    seen = []
    out = tmp_path / "new" / "w.safetensors"
    result = train(
        [photograph], out, iterations=60, crop=32, device="cpu", progress=lambda *line: seen.append(line)
    )
    assert [line[0] for line in seen] == list(range(1, 61))
    assert np.mean([line[2] for line in seen[-10:]]) > np.mean([line[2] for line in seen[:10]]) + 5
    made = load_weights(out).made
    assert made["settings"] == replace(PRESETS["res2netfuse"], iterations=60, crop=32).to_json()
    assert made["images"] == [
        {"name": "photo.png", "sha256": read_photograph(photograph).sha256, "shape": [60, 70]}
    ]
    assert made["figures"] == {"loss": result.loss, "psnr": result.psnr, "ssim": result.ssim}
    target = torch.from_numpy(read_photograph(photograph).pixels)[None, None]
    with torch.inference_mode():
        image = load_weights(out).network()(target)
    assert float(psnr(image, target)) == pytest.approx(result.psnr, abs=1e-3)
    assert str(tmp_path) not in out.read_bytes().decode("latin-1")


def test_training_is_repeatable_and_the_seed_matters(photograph, tmp_path):
    contents = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        torch.rand(3)  # what was drawn before is of no account
        path = tmp_path / f"{name}.safetensors"
        train([photograph], path, iterations=3, crop=24, seed=seed, device="cpu")
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_training_leaves_the_random_state_alone(photograph, tmp_path):
    state = torch.random.get_rng_state()
    train([photograph], tmp_path / "w.safetensors", iterations=1, crop=24, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_several_photographs_are_trained_on(photograph, tmp_path):
    Image.fromarray(picture(seed=2)).save(tmp_path / "second.png")
    out = tmp_path / "w.safetensors"
    train([photograph, tmp_path / "second.png"], out, iterations=1, crop=24, device="cpu")
    assert [image["name"] for image in load_weights(out).made["images"]] == ["photo.png", "second.png"]


def test_gray_16_bits_and_colour_are_read_to_0_1(tmp_path):
    gray = picture()
    images = {
        "l.png": Image.fromarray(gray),
        "i16.png": Image.fromarray(gray.astype(np.uint16) * 257),
        "i16.tif": Image.fromarray(gray.astype(np.uint16) * 257),
        "rgb.png": Image.fromarray(np.stack([gray] * 3, axis=2)),
        "rgba.png": Image.fromarray(np.stack([gray] * 4, axis=2)),
        "p.png": Image.fromarray(gray).quantize(256),
    }
    for name, image in images.items():
        image.save(tmp_path / name)
        pixels = read_photograph(tmp_path / name).pixels
        assert pixels.dtype == np.float32
        np.testing.assert_allclose(pixels, gray / 255, atol=1e-6, err_msg=name)


def test_colour_is_read_by_its_luminance(tmp_path):
    rgb = np.zeros((30, 30, 3), np.uint8)
    rgb[:10, :, 0] = rgb[10:20, :, 1] = rgb[20:, :, 2] = 255
    Image.fromarray(rgb).save(tmp_path / "rgb.png")
    pixels = read_photograph(tmp_path / "rgb.png").pixels
    np.testing.assert_allclose(pixels[::10, 0], [0.299, 0.587, 0.114], atol=1e-7)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda _: None, "No such file"),
        (lambda p: p.mkdir(), "Is a directory"),
        (lambda p: p.write_bytes(b"nothing"), "cannot identify"),
        (lambda p: p.write_bytes(b""), "cannot identify"),
        (lambda p: Image.new("L", (30, 30), 7).save(p), "single value"),
        (lambda p: Image.fromarray(np.eye(30, dtype=np.float32)).save(p, "TIFF"), "of mode F"),
        (lambda p: Image.fromarray(np.eye(30, dtype=np.int32) * 70000).save(p, "TIFF"), "0 to 70000"),
    ],
)
def test_images_that_can_not_be_trained_on_are_one_line(tmp_path, make, match):
    path = tmp_path / "photo.png"
    make(path)
    with pytest.raises(SourceError, match=rf"photo\.png .*{match}") as caught:
        train([path], tmp_path / "w.safetensors", iterations=1, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_truncated_image_is_one_line(photograph, tmp_path):
    photograph.write_bytes(photograph.read_bytes()[:2000])
    with pytest.raises(SourceError, match=r"photo\.png can't be read"):
        train([photograph], tmp_path / "w.safetensors", iterations=1, device="cpu")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"iterations": 0}, "0 iterations"),
        ({"crop": 8}, "crops of 8 pixels are too small"),
        ({"crop": 64}, r"photo\.png has 60 x 70 pixels, less than a crop of 64"),
        ({"learning_rate": 0.0}, "learning rate 0.0"),
        ({"learning_rate": math.nan}, "learning rate nan"),
        ({"device": "gpu"}, "no device 'gpu'"),
    ],
)
def test_settings_that_can_not_work_are_one_line(photograph, tmp_path, settings, match):
    with pytest.raises(RecipeError, match=match):
        train([photograph], tmp_path / "w.safetensors", **settings)
    assert not (tmp_path / "w.safetensors").exists()


def test_training_needs_an_image_and_a_safetensors_file(photograph, tmp_path):
    with pytest.raises(RecipeError, match="needs an image"):
        train([], tmp_path / "w.safetensors")
    with pytest.raises(RecipeError, match=r"w\.pth has to end in \.safetensors"):
        train([photograph], tmp_path / "w.pth")


def test_a_loss_that_overflows_is_one_line(photograph, tmp_path):
    with pytest.raises(TrainingError, match=r"the loss is \w+ at iteration \d+: lower the learning rate"):
        train(
            [photograph], tmp_path / "w.safetensors", iterations=9, crop=24, learning_rate=1e30, device="cpu"
        )


@pytest.mark.skipif(sys.platform == "win32", reason="folders of others can be written there")
def test_an_output_that_can_not_be_written_is_told_before_training(photograph, tmp_path):
    (tmp_path / "file").write_text("")
    seen = []
    with pytest.raises(WeightsError, match="file can't be written"):
        train([photograph], tmp_path / "file" / "w.safetensors", crop=24, progress=lambda *a: seen.append(a))
    assert not seen


def test_the_paper_s_preset_keeps_the_mean_of_the_weights_and_the_last_ones(photograph, tmp_path):
    out = tmp_path / "w.safetensors"
    result = train([photograph], out, preset="paper", iterations=4, device="cpu")
    assert result.last == tmp_path / "w-last.safetensors"
    kept, last = load_weights(out), load_weights(result.last)
    assert (kept.made["weights"], last.made["weights"]) == ("mean", "last")
    assert kept.config.bias
    assert kept.made["settings"] == replace(PRESETS["paper"], iterations=4).to_json()
    assert not torch.equal(kept.tensors["encoder.conv1.weight"], last.tensors["encoder.conv1.weight"])


def test_the_mean_of_the_weights_is_the_exponential_one():
    network = Res2NetFuse()
    mean = WeightsMean(network, 0.9)
    values = np.random.default_rng(0).random(30)
    found = []
    for value in values:
        for parameter in network.parameters():
            parameter.data.fill_(float(value))
        mean.add(network)
        found.append(float(next(mean.network.parameters()).flatten()[0]))
    for t in range(1, 31):
        shares = 0.9 ** np.arange(t - 1, -1, -1)
        assert found[t - 1] == pytest.approx((shares * values[:t]).sum() / shares.sum(), rel=1e-5)


def test_weights_trained_at_another_white_take_images_of_0_to_1(photograph):
    """f(v x; w, b) / v is f(x; w, b / v): what training saw is what the kept weights do."""
    image = read_photograph(photograph)
    settings = replace(PRESETS["paper"], iterations=2)
    course = trained([image], settings, torch.device("cpu"))
    target = torch.from_numpy(image.pixels)[None, None]
    with torch.no_grad():
        seen = course.network(target * 255) / 255
        np.testing.assert_allclose(course.last()(target), seen, rtol=0, atol=1e-6)


def test_an_unknown_preset_is_refused(photograph, tmp_path):
    with pytest.raises(RecipeError, match="no preset 'best': give one of res2netfuse, paper"):
        train([photograph], tmp_path / "w.safetensors", preset="best")


# --- variants of the network ----------------------------------------------------------------------

VARIANTS = list(itertools.product((False, True), repeat=3))


@pytest.mark.parametrize(("shared", "bias", "skip"), VARIANTS)
def test_each_variant_trains_from_the_command_and_fuses_tile_by_tile_as_untiled(
    photograph, tmp_path, shared, bias, skip
):
    out = tmp_path / "w.safetensors"
    words = ["--bias" if bias else "--no-bias", "--shared" if shared else "--separate"]
    words += ["--skip" if skip else "--no-skip", "--iterations", "8", "--crop", "32", "--device", "cpu"]
    done = CliRunner().invoke(commands, ["train", str(photograph), "-o", str(out), *words])
    assert done.exit_code == 0, done.output
    weights = load_weights(out)
    assert weights.config == Res2NetFuseConfig(shared, bias, skip)
    assert weights.made["settings"]["network"] == weights.config.to_json()

    network = weights.network()
    sources = np.stack([picture((75, 66), seed) / np.float32(255) for seed in (1, 2)])
    with torch.inference_mode():
        features = [network.encode(torch.from_numpy(source)[None, None]) for source in sources]
        merged = rule_of("average", {}).merged(features, [], None)
        whole = network.decode(merged.features)[0, 0].numpy()
    assert np.ptp(whole) > 1e-3
    fused = fuse(*sources, strategy="average", weights=out, device="cpu")
    np.testing.assert_allclose(fused, whole, rtol=0, atol=1e-6)
    assert PrepackedNetwork.is_possible()
    fuser = load_fuser(strategy="average", weights=str(out), device="cpu")
    for tile in Tiling(whole.shape, 32, 12):
        window = sources[(slice(None), *tile.window.slices)].copy()
        core = fuser.fuse(window, tile.core.relative_to(tile.window), None)
        np.testing.assert_allclose(core, whole[tile.core.slices], rtol=0, atol=1e-6)


def test_without_a_word_the_variant_is_the_preset_s(photograph, tmp_path):
    out = tmp_path / "w.safetensors"
    words = ["--preset", "paper", "--shared", "--iterations", "1"]
    done = CliRunner().invoke(commands, ["train", str(photograph), "-o", str(out), *words])
    assert done.exit_code == 0, done.output
    assert load_weights(out).config == Res2NetFuseConfig(shared=True, bias=True, skip=True)


# --- the command --------------------------------------------------------------------------------


def test_the_command_draws_the_loss_and_keeps_what_is_there(photograph, tmp_path):
    out, drawing = tmp_path / "w.safetensors", tmp_path / "w-loss.png"
    words = ["train", str(photograph), "-o", str(out), "--iterations", "9", "--crop", "24"]
    done = CliRunner().invoke(commands, words)
    assert done.exit_code == 0, done.output
    assert done.stderr.splitlines()[-1].startswith("iteration 9 of 9: loss ")
    with Image.open(drawing) as image:
        assert image.size == (900, 560)
    content = out.read_bytes()
    drawing.unlink()
    again = CliRunner().invoke(commands, words)
    assert again.exit_code == 0, again.output
    assert "there already" in again.stderr
    assert "iteration" not in again.stderr
    assert (out.read_bytes(), drawing.exists()) == (content, False)
    other = CliRunner().invoke(commands, [*words, "--seed", "1"])
    assert other.exit_code == 2
    assert "seed is 0 there, 1 here" in other.stderr
    anew = CliRunner().invoke(commands, [*words, "--seed", "1", "--restart"])
    assert anew.exit_code == 0
    assert out.read_bytes() != content


def test_the_drawing_never_lands_on_a_photograph(photograph, tmp_path):
    content = photograph.rename(tmp_path / "w-loss.png").read_bytes()
    words = ["train", str(tmp_path / "w-loss.png"), "-o", str(tmp_path / "w.safetensors")]
    done = CliRunner().invoke(commands, words)
    assert done.exit_code == 2
    assert "is an image to train on" in done.output
    assert (tmp_path / "w-loss.png").read_bytes() == content


# --- stopping and continuing --------------------------------------------------------------------

TINY = ("--preset", "paper", "--iterations", "24", "--device", "cpu")
DISTURBED = """
import sys, batchfuse.training.checkpoint as checkpoint
checkpoint.EVERY = float(sys.argv.pop(1))
from batchfuse.cli import main
main()
"""


def tiny(photograph, out, **options):
    """What a command with the options TINY does."""
    return train([photograph], out, preset="paper", iterations=24, device="cpu", **options)


def disturbed(photograph, out, number, after, every=0.0):
    """Starts the command, and sends it a signal as soon as its log tells of an iteration."""
    call = [sys.executable, "-c", DISTURBED, str(every), "train", str(photograph), "-o", str(out), *TINY]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # as here: sums of several threads are rounded otherwise
    with subprocess.Popen(call, stderr=subprocess.PIPE, text=True, env=alone) as process:
        log = ""
        for line in process.stderr:
            log += line
            if line.startswith(f"iteration {after} of 24"):
                process.send_signal(number)
                break
        log += process.stderr.read()
    return process.returncode, log


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    Image.fromarray(picture()).save(folder / "photo.png")
    tiny(folder / "photo.png", folder / "out" / "w.safetensors")
    files = files_of(folder / "out")
    assert sorted(files) == ["w-last.safetensors", "w.safetensors"]
    return files


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGKILL")
def test_a_killed_training_goes_on_to_the_same_bytes(photograph, tmp_path, undisturbed):
    out = tmp_path / "killed" / "w.safetensors"
    for after in (5, 14):  # the second time it had already gone on once
        code, log = disturbed(photograph, out, signal.SIGKILL, after)
        assert code == -signal.SIGKILL
        assert (after == 5) == ("iteration 3 of 24" in log)
        assert not out.exists()
        assert checkpoint_path(out).exists()
    told = []
    result = tiny(photograph, out, progress=lambda *line: told.append(line))
    assert told[0][0] >= 14
    assert [step.iteration for step in result.steps] == list(range(1, 25))
    assert files_of(out.parent) == undisturbed


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_so_and_goes_on_to_the_same_bytes(
    photograph, tmp_path, undisturbed, number
):
    out = tmp_path / "interrupted" / "w.safetensors"
    code, log = disturbed(photograph, out, number, 5, every=20.0)  # none is due before
    assert code == 130
    assert re.search(
        r"\nbatchfuse: interrupted after iteration \d+ of 24, \S*w\.checkpoint\.safetensors holds it: "
        r"the same command goes on from there\n$",
        log,
    )
    assert [path.name for path in out.parent.iterdir()] == ["w.checkpoint.safetensors"]
    tiny(photograph, out)
    assert files_of(out.parent) == undisturbed


class StopError(Exception):
    pass


def stop_at(iteration):
    def tell(number, *_):
        if number == iteration:
            raise StopError

    return tell


@pytest.fixture
def stopped(photograph, tmp_path, monkeypatch):
    """The checkpoint of a training that was ended in its 13th iteration."""
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    out = tmp_path / "stopped" / "w.safetensors"
    with pytest.raises(StopError):
        tiny(photograph, out, progress=stop_at(13))
    return out


@pytest.mark.parametrize(
    "settings", [{}, {"crop": 24, "augment": True, "schedule": "cosine", "mean_decay": 0.0}]
)
def test_a_training_can_go_on_after_every_iteration(photograph, tmp_path, monkeypatch, settings):
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    options = {"preset": "paper", "iterations": 6, "device": "cpu", **settings}
    train([photograph], tmp_path / "a" / "w.safetensors", **options)
    for number in range(1, 7):
        with pytest.raises(StopError):
            train([photograph], tmp_path / "b" / "w.safetensors", progress=stop_at(number), **options)
    train([photograph], tmp_path / "b" / "w.safetensors", **options)
    assert files_of(tmp_path / "b") == files_of(tmp_path / "a")


def test_a_training_goes_on_with_the_threads_it_began_with(photograph, stopped, undisturbed):
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        tiny(photograph, stopped)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert files_of(stopped.parent) == undisturbed


def test_nothing_in_a_checkpoint_is_pickled(stopped):
    content = checkpoint_path(stopped).read_bytes()
    assert set(load_file(checkpoint_path(stopped))) >= {"steps", "network.block.entry.bias"}
    assert content[8:9] == b"{"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"seed": 3}, r"\(seed is 0 there, 3 here\)"),
        ({"iterations": 25}, r"\(iterations is 24 there, 25 here\)"),
        ({"crop": 24}, r"\(crop is none there, 24 here\)"),
        (
            {"network": Res2NetFuseConfig(bias=True, skip=False)},
            r"\(network\.skip is true there, false here\)",
        ),
    ],
)
def test_a_checkpoint_and_weights_of_other_settings_are_refused(photograph, stopped, options, match):
    options = {"preset": "paper", "iterations": 24, "device": "cpu", **options}
    with pytest.raises(
        RecipeError, match=rf"w\.checkpoint.* of another training {match}: .*--restart"
    ) as caught:
        train([photograph], stopped, **options)
    assert "\n" not in str(caught.value)
    tiny(photograph, stopped)
    with pytest.raises(RecipeError, match=rf"w-?\w*\.safetensors is .* {match}: --restart .*another output"):
        train([photograph], stopped, **options)


def test_a_checkpoint_and_weights_of_other_images_are_refused(photograph, stopped):
    pixels = photograph.read_bytes()
    other = photograph.with_name("other.png")

    def refused(match, *images):
        with pytest.raises(RecipeError, match=match):
            train(images, stopped, preset="paper", iterations=24, device="cpu")

    for _ in range(2):
        Image.fromarray(picture(seed=4)).save(other)
        refused(r"the image photo\.png there, other\.png here", other)
        refused(r"the image none there, other\.png here", photograph, other)
        Image.fromarray(picture(seed=4)).save(photograph)
        refused(r"photo\.png has SHA-256 \w{12}… there, \w{12}… here", photograph)
        photograph.write_bytes(pixels)
        tiny(photograph, stopped)  # the second time around weights are there, and no checkpoint
        assert not checkpoint_path(stopped).exists()


def test_restart_begins_anew_whatever_is_there(photograph, stopped, undisturbed):
    for content in (None, checkpoint_path(stopped).read_bytes()[:-9]):
        if content is not None:
            checkpoint_path(stopped).write_bytes(content)
        told = []
        tiny(photograph, stopped, restart=True, progress=lambda n, *_: told.append(n))  # noqa: B023
        assert told[0] == 1
        assert files_of(stopped.parent) == undisturbed
    other = stopped.with_name("other.safetensors")
    save_file({"weight": torch.ones(2)}, other)
    for path, line in ((checkpoint_path(stopped), "is no checkpoint"), (stopped, "was not written by")):
        for content in (b"nothing", other.read_bytes()):
            path.write_bytes(content)
            with pytest.raises(RecipeError, match=rf"{path.name} is there and {line}"):
                tiny(photograph, stopped, restart=True)
            assert path.read_bytes() == content
        path.unlink()


def test_a_checkpoint_that_is_damaged_is_one_line(photograph, stopped):
    path = checkpoint_path(stopped)
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-1000] ^= 4
    changed = content.replace(b'threads\\": 1', b'threads\\": 2')
    for damaged in (content[:-9], flipped, changed):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"w\.checkpoint.*: --restart begins anew") as caught:
            tiny(photograph, stopped)
        assert "\n" not in str(caught.value)
    for foreign in (b"", b"nothing"):
        path.write_bytes(foreign)
        with pytest.raises(RecipeError, match="is no checkpoint of a training: use another output"):
            tiny(photograph, stopped)
    path.unlink()
    train([photograph], path.with_name("v.safetensors"), iterations=1, crop=24, device="cpu")
    path.with_name("v.safetensors").rename(path)
    with pytest.raises(
        WeightsError, match=r"w\.checkpoint\S* is there and is no checkpoint .*another output"
    ):
        tiny(photograph, stopped)


def test_weights_that_are_there_already_are_kept(photograph, tmp_path, undisturbed):
    for name, content in undisturbed.items():
        (tmp_path / name).write_bytes(content)
    out = tmp_path / "w.safetensors"
    result = tiny(photograph, out, progress=stop_at(1))
    assert (len(result.steps), result.psnr) == (0, load_weights(out).made["figures"]["psnr"])
    (tmp_path / "w-last.safetensors").unlink()
    tiny(photograph, out)
    assert files_of(tmp_path) == {**undisturbed, "photo.png": photograph.read_bytes()}


def test_an_output_that_is_something_else_is_left_alone(photograph, tmp_path):
    out = tmp_path / "w.safetensors"
    out.write_bytes(b"something else")
    with pytest.raises(
        RecipeError, match=r"w\.safetensors is there and was not written by `batchfuse train`: use another"
    ):
        tiny(photograph, out)
    assert out.read_bytes() == b"something else"


def test_a_training_that_is_lost_keeps_no_checkpoint(photograph, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "EVERY", 0.0)
    out = tmp_path / "lost" / "w.safetensors"
    for iterations in (1, 9):  # after one the loss is a number, the weights are none
        with pytest.raises(TrainingError, match="lower the learning rate"):
            train([photograph], out, iterations=iterations, crop=24, learning_rate=1e30, device="cpu")
        assert not list(out.parent.iterdir())


def test_a_checkpoint_costs_next_to_nothing(photograph, tmp_path):
    course = trained([read_photograph(photograph)], Settings(iterations=1, crop=24), torch.device("cpu"))
    kept = checkpoint.Checkpoint(tmp_path / "w.safetensors", {}, torch.device("cpu"))
    began = time.perf_counter()
    for _ in range(5):
        kept.write(course)
    assert (time.perf_counter() - began) / 5 < 0.02 * checkpoint.EVERY
