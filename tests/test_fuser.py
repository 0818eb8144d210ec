from __future__ import annotations

import functools
import platform
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from batchfuse.errors import BatchfuseError, RecipeError, WeightsError
from batchfuse.fusion.allocator import keep_memory
from batchfuse.fusion.arrays import fuse
from batchfuse.fusion.extremes import Extremes
from batchfuse.fusion.fuser import load_fuser
from batchfuse.fusion.layers import RADIUS
from batchfuse.fusion.methods import method
from batchfuse.fusion.moments import Moments
from batchfuse.fusion.prepacked import PrepackedNetwork
from batchfuse.fusion.rules import rule_of
from batchfuse.fusion.weights import load_weights
from batchfuse.fusion.windowed import Res2NetFuser
from batchfuse.geometry.tiling import Tiling
from batchfuse.geometry.window import Window

AVERAGING = ("l1", "mean", "average")
STRATEGIES = (*AVERAGING, "detail")
SURVEYED = {"mean": Extremes, "detail": Moments}
SHAPE = (59, 46)
EXACT = {"float64": 1e-13, "float32": 1e-6}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Threads that wait for each other are slow on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def networks():
    plain = load_weights("res2netfuse").network()
    return {"float32": plain, "float64": load_weights("res2netfuse").network().double()}


def sources_of(number=2, shape=SHAPE, seed=0):
    """Smooth images with edges and noise: a network sees more in them than in noise alone."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    images = [
        0.4 + 0.3 * np.sin((y + 3 * i) / (4 + i)) * np.cos(x / (7 - i)) + 0.2 * (x > 20 + 5 * i)
        for i in range(number)
    ]
    noise = random.normal(0, 0.02, (number, *shape))
    return np.clip(np.stack(images) + noise, 0, None).astype(np.float32)


def whole(network, strategy, sources):
    """What the network gives on the whole image, without any window: the oracle."""
    dtype = next(network.parameters()).dtype
    with torch.inference_mode():
        images = [torch.from_numpy(s).to(dtype)[None, None] for s in sources]
        features = [network.encode(image) for image in images]
        means = [f.mean(1) for f in features]
        survey = Extremes(tuple(float(m.min()) for m in means), tuple(float(m.max()) for m in means))
        if strategy == "detail":
            survey = Moments.of(sources, np.ones(sources.shape, bool))
        merged = rule_of(strategy, defaults(strategy)).merged(features, images, survey)
        return merged.finished(network.decode(merged.features))[0, 0].numpy()


def defaults(strategy):
    return method("res2netfuse").strategy(strategy).resolved({})


def fuser_of(strategy, precision="float32", inner=None):
    parameters = defaults(strategy)
    return Res2NetFuser(strategy, "res2netfuse", "cpu", precision, inner=inner, parameters=parameters)


def tiled(fuser, strategy, sources, size, halo=None, survey_halo=None):
    """The same through tiles, each of which sees its own window only."""
    asked = method("res2netfuse").strategy(strategy)
    shape, valid = sources.shape[1:], np.ones(sources.shape, bool)
    survey = None
    if asked.survey_halo is not None:
        survey = SURVEYED[strategy].empty(len(sources))
        for tile in Tiling(shape, size, asked.survey_halo if survey_halo is None else survey_halo):
            at = (slice(None), *tile.window.slices)
            survey = survey.merge(fuser.survey(sources[at], valid[at], tile.core.relative_to(tile.window)))
    fused = np.full(shape, np.nan)
    for tile in Tiling(shape, size, asked.halo if halo is None else halo):
        window = sources[(slice(None), *tile.window.slices)].copy()
        fused[tile.core.slices] = fuser.fuse(window, tile.core.relative_to(tile.window), survey)
    return fused


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("sources", [2, 3])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("size", "inner"), [(5, None), (13, None), (31, 9), (64, 17)])
def test_tiled_equals_whole(networks, strategy, sources, precision, size, inner):
    images = sources_of(sources)
    fuser = fuser_of(strategy, precision, inner)
    expected = whole(networks[precision], strategy, images)
    assert np.abs(tiled(fuser, strategy, images, size) - expected).max() < EXACT[precision]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_large_tiles_in_float32_equal_whole(networks, strategy):
    images = sources_of(shape=(301, 277))
    fuser = load_fuser(strategy=strategy, device="cpu")
    expected = whole(networks["float32"], strategy, images)
    # the plain network sums in another order than ours, and detail raises the contrast of what that rounds
    limit = 2e-6 if strategy == "detail" else 1e-6
    for size in (128, 200, 512):
        assert np.abs(tiled(fuser, strategy, images, size) - expected).max() < limit
    together = tiled(fuser, strategy, images, 512)
    assert np.abs(tiled(fuser, strategy, images, 128) - together).max() < 1e-6


def test_a_torch_without_the_fast_operators_gives_the_same(networks, monkeypatch):
    monkeypatch.setattr(PrepackedNetwork, "is_possible", lambda: False)
    images = sources_of()
    fuser = load_fuser(device="cpu")
    assert np.abs(tiled(fuser, "l1", images, 31) - whole(networks["float32"], "l1", images)).max() < 1e-6


def test_the_allocator_stays_as_the_user_set_it(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert keep_memory.__wrapped__() is False


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another")
def test_what_dask_sets_for_its_workers_is_no_wish_of_the_user(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    assert keep_memory.__wrapped__() is True


def test_parameters_choose_what_is_fused_and_are_told_apart():
    images = sources_of()
    fused = {gain: fuse(*images, strategy={"detail": {"contrast": gain}}, device="cpu") for gain in (1, 1.5)}
    assert np.abs(fused[1] - fused[1.5]).max() > 0.01
    assert np.array_equal(fused[1.5], fuse(*images, strategy="detail", device="cpu"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_halo_less_by_one_pixel_is_measurably_wrong(networks, strategy):
    images = sources_of()
    halo = method("res2netfuse").strategy(strategy).halo - 1
    found = tiled(fuser_of(strategy, "float64"), strategy, images, 23, halo=halo)
    assert np.abs(found - whole(networks["float64"], strategy, images)).max() > 1e-12


def test_a_survey_halo_of_7_is_measurably_wrong():
    images = sources_of()
    fuser = Res2NetFuser("mean", "res2netfuse", "cpu", "float64")
    valid = np.ones(images.shape, bool)
    merged = {}
    for halo in (7, 8):
        merged[halo] = Extremes.empty(2)
        for tile in Tiling(SHAPE, 5, halo):
            at = (slice(None), *tile.window.slices)
            core = tile.core.relative_to(tile.window)
            merged[halo] = merged[halo].merge(fuser.survey(images[at], valid[at], core))
    exact = fuser.survey(images, valid, Window.whole(SHAPE))
    np.testing.assert_allclose(
        merged[8].minimum + merged[8].maximum, exact.minimum + exact.maximum, rtol=1e-14
    )
    assert (
        np.abs(np.subtract(merged[7].minimum + merged[7].maximum, exact.minimum + exact.maximum)).max()
        > 1e-12
    )


@pytest.mark.parametrize("strategy", ["l1", "detail"])
def test_more_halo_than_needed_changes_nothing(networks, strategy):
    images = sources_of()
    halo = method("res2netfuse").strategy(strategy).halo + 3
    found = tiled(fuser_of(strategy, "float64"), strategy, images, 23, halo=halo)
    assert np.abs(found - whole(networks["float64"], strategy, images)).max() < 1e-13


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_halo_of_a_strategy_is_that_of_the_network_and_the_reach_of_its_rule(strategy):
    reach = rule_of(strategy, defaults(strategy)).reach
    assert method("res2netfuse").strategy(strategy).halo == RADIUS + reach <= 20


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_black_sources_give_black(strategy):
    assert not fuse(np.zeros((30, 20)), np.zeros((30, 20)), strategy=strategy, device="cpu").any()


@pytest.mark.parametrize("strategy", AVERAGING)
@pytest.mark.parametrize("number", [2, 3])
def test_equal_sources_give_what_the_network_gives_of_one(networks, strategy, number):
    image = sources_of(1)[0]
    with torch.inference_mode():
        expected = networks["float32"](torch.from_numpy(image)[None, None])[0, 0].numpy()
    fused = fuse(*[image] * number, strategy=strategy, device="cpu")
    np.testing.assert_allclose(fused, expected, rtol=0, atol=1e-6)
    assert np.abs(fused - image).mean() < 0.01


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_order_of_the_sources_does_not_matter(strategy):
    a, b, c = sources_of(3)
    one, other = (fuse(*given, strategy=strategy, device="cpu") for given in ((a, b, c), (c, a, b)))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("strategy", ["l1", "average"])
@pytest.mark.parametrize("scale", [1e-6, 0.05, 1000.0])
def test_the_fused_image_scales_with_its_sources(strategy, scale):
    a, b = sources_of()
    fused = fuse(a, b, strategy=strategy, device="cpu")
    scaled = fuse(a * np.float32(scale), b * np.float32(scale), strategy=strategy, device="cpu")
    np.testing.assert_allclose(scaled / scale, fused, rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 3), (13, 12)])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_images_smaller_than_the_halo_are_fused(networks, strategy, shape):
    images = sources_of(shape=shape)
    fused = fuse(*images, strategy=strategy, device="cpu")
    assert np.abs(fused - whole(networks["float32"], strategy, images)).max() < 1e-6


@pytest.mark.parametrize("shape", [(1, 400), (17, 90), (300, 280)])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_any_number_of_threads_gives_the_same_bytes(strategy, shape):
    """Torch with three threads cuts a layer's sums elsewhere than with one: we give each window one."""
    sources, core = sources_of(shape=shape), Window((0, 0), shape)
    found = []
    for threads in (1, 2, 3):
        fuser = load_fuser(strategy=strategy, device="cpu", threads=threads)
        survey = fuser.survey(sources, np.ones(sources.shape, bool), core) if strategy in SURVEYED else None
        found.append((fuser.fuse(sources, core, survey).tobytes(), survey))
    assert found[0] == found[1] == found[2]


def test_the_callers_threads_of_torch_are_left_as_they_were():
    torch.set_num_threads(3)
    try:
        fuse(*sources_of(), device="cpu")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)


def test_threads_share_one_fuser():
    images = sources_of(shape=(90, 90))
    fuser = load_fuser(device="cpu", threads=1)
    cores = [Window((i, 12), (i + 20, 78)) for i in range(0, 70, 5)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda core: fuser.fuse(images, core, None), cores * 2))
    for core, fused in zip(cores * 2, together, strict=True):
        assert np.array_equal(fused, fuser.fuse(images, core, None))


def test_the_arrays_are_not_altered_and_may_be_views():
    images = sources_of(shape=(80, 70))
    view = images[:, 60:10:-1, ::2]
    before = images.copy()
    assert np.array_equal(fuse(*view, device="cpu"), fuse(*view.copy(), device="cpu"))
    assert np.array_equal(images, before)


def test_arrays_that_can_not_be_written_are_fused():
    images = sources_of()
    expected = load_fuser(device="cpu").fuse(images, Window.whole(SHAPE), None)
    images.flags.writeable = False
    assert np.array_equal(load_fuser(device="cpu").fuse(images, Window.whole(SHAPE), None), expected)


def test_the_survey_looks_at_valid_pixels_of_the_core_only():
    images = sources_of()
    fuser = load_fuser(strategy="mean", device="cpu")
    valid = np.ones(images.shape, bool)
    core = Window((10, 10), (40, 40))
    everything = fuser.survey(images, valid, core)
    with torch.inference_mode():
        network = load_weights("res2netfuse").network()
        means = [network.encode(torch.from_numpy(s)[None, None]).mean(1)[0].numpy() for s in images]
    inside = [m[10:40, 10:40] for m in means]
    np.testing.assert_allclose(everything.minimum, [m.min() for m in inside], rtol=0, atol=1e-7)
    np.testing.assert_allclose(everything.maximum, [m.max() for m in inside], rtol=0, atol=1e-7)
    valid[0, means[0] > np.median(means[0])] = False
    fewer = fuser.survey(images, valid, core)
    assert fewer.maximum[0] < everything.maximum[0]
    assert (fewer.minimum[0], fewer.maximum[1]) == (everything.minimum[0], everything.maximum[1])


def test_the_survey_of_nothing_valid_is_empty():
    images = sources_of()
    fuser = load_fuser(strategy="mean", device="cpu")
    assert fuser.survey(images, np.zeros(images.shape, bool), Window.whole(SHAPE)) == Extremes.empty(2)


def test_a_stack_is_fused_image_by_image():
    stacks = sources_of(shape=(24, 30)), sources_of(shape=(24, 30), seed=1)
    fused = fuse(*stacks, strategy="mean", device="cpu")
    assert fused.shape == (2, 24, 30)
    for i in range(2):
        assert np.array_equal(fused[i], fuse(stacks[0][i], stacks[1][i], strategy="mean", device="cpu"))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_any_real_type_is_fused_to_float32(dtype):
    images = sources_of().astype(dtype)
    fused = fuse(*images, device="cpu")
    assert fused.dtype == np.float32
    assert np.array_equal(fused, fuse(*images.astype(np.float32), device="cpu"))


IMAGE = np.full((20, 20), 0.5)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ((), "two or more arrays, not 0"),
        ((IMAGE,), "two or more arrays, not 1"),
        ((IMAGE, IMAGE[1:]), r"differ in shape, \[\(20, 20\), \(19, 20\)\]"),
        ((IMAGE, IMAGE[0]), r"array 2 to fuse has shape \(20,\)"),
        ((IMAGE[:0], IMAGE[:0]), r"array 1 to fuse has shape \(0, 20\)"),
        ((IMAGE, IMAGE * np.nan), "array 2 to fuse has NaN"),
        ((IMAGE * 1e300, IMAGE), "array 1 to fuse has NaN or infinite"),
        ((IMAGE * 1j, IMAGE), "array 1 to fuse is of complex128"),
        ((IMAGE, "image"), "array 2 to fuse is of <U5"),
        ((IMAGE, [[1], [1, 2]]), "array 2 to fuse is no array"),
        ((IMAGE, IMAGE - 0.6), "array 2 to fuse goes down to -0.1"),
        ((IMAGE, np.ma.masked_equal(IMAGE, 0.5)), "array 2 to fuse has masked values"),
    ],
)
def test_arrays_that_can_not_be_fused_are_one_line(arrays, match):
    with pytest.raises(BatchfuseError, match=match) as caught:
        fuse(*arrays, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"device": "gpu"}, RecipeError, "no device 'gpu'"),
        ({"device": "cuda:99"}, RecipeError, "'cuda:99' is not available"),
        ({"device": "cuda:x"}, RecipeError, "no device 'cuda:x'"),
        ({"device": "cpu:0"}, RecipeError, "no device 'cpu:0'"),
        ({"strategy": "maximum"}, RecipeError, "no strategy 'maximum'"),
        (
            {"strategy": {"detail": {"contrsat": 1}}},
            RecipeError,
            r"detail\.contrsat: .*did you mean 'contrast'",
        ),
        ({"strategy": {"detail": {"contrast": 0.5}}}, RecipeError, r"detail\.contrast: found 0\.5; give a n"),
        ({"strategy": {"detail": {"contrast": True}}}, RecipeError, r"detail\.contrast: found True"),
        ({"strategy": {"detail": 1.2}}, RecipeError, "parameters of detail are a mapping"),
        ({"strategy": {"l1": {"contrast": 1.2}}}, RecipeError, "takes no parameters"),
        ({"strategy": {"l1": {}, "mean": {}}}, RecipeError, "one name with its parameters"),
        ({"strategy": 3}, RecipeError, "a strategy is a name"),
        ({"weights": "mine.pth"}, WeightsError, "pickled"),
    ],
)
def test_calls_that_can_not_work_are_one_line(settings, error, match):
    with pytest.raises(error, match=match) as caught:
        fuse(IMAGE, IMAGE, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("precision", "match"),
    [("bfloat16", "not built yet"), ("float16", "not built yet"), ("double", "no precision")],
)
def test_other_precisions_are_refused(precision, match):
    with pytest.raises(RecipeError, match=match):
        load_fuser(device="cpu", precision=precision)


def test_a_method_whose_class_is_missing_is_one_line(monkeypatch):
    from batchfuse.fusion import methods

    absent = methods.Method("absent", "no.such.module:Fuser", dict(method("res2netfuse").strategies), "none")
    monkeypatch.setattr(methods, "_REGISTERED", {"absent": absent})
    with pytest.raises(RecipeError, match=r"no\.such\.module:Fuser can't be loaded"):
        load_fuser("absent")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_gpu_gives_what_the_cpu_gives(strategy):
    images = sources_of(shape=(301, 277))
    fuser = load_fuser(strategy=strategy, device="auto")
    assert fuser.device == "cuda:0"
    expected = fuse(*images, strategy=strategy, device="cpu")
    for size in (128, 512):
        assert np.abs(tiled(fuser, strategy, images, size) - expected).max() < 1e-5


def test_a_fuser_says_where_and_how_it_computes():
    fuser = load_fuser(device="cpu")
    assert (fuser.device, fuser.precision) == ("cpu", "float32")


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("inner", [None, 24])
def test_slices_of_a_volume_are_fused_each_on_its_own(strategy, inner):
    fuser = fuser_of(strategy, inner=inner)
    chance = np.random.default_rng(5)
    volume = chance.random((2, 5, 40, 50), np.float32)
    valid = chance.random(volume.shape) > 0.1
    core = Window((3, 0), (37, 45))
    survey = fuser.survey(volume, valid, core) if strategy in SURVEYED else None
    together = fuser.fuse(volume, core, survey)
    assert together.shape == (5, 34, 45)
    for i in range(5):
        alone = fuser.fuse(volume[:, i], core, survey)
        assert np.abs(together[i] - alone).max() < 1e-6
    if survey is not None:
        parts = [fuser.survey(volume[:, i], valid[:, i], core) for i in range(5)]
        merged = functools.reduce(lambda one, other: one.merge(other), parts)
        assert_close(survey, merged)


def assert_close(survey, other):
    """Extremes to rounding; moments, which are whole numbers, exactly."""
    if isinstance(survey, Extremes):
        assert survey.minimum == pytest.approx(other.minimum, abs=1e-6)
        assert survey.maximum == pytest.approx(other.maximum, abs=1e-6)
    else:
        assert survey == other
