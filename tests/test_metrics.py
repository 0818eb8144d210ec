"""The figures against the plainest loops, scikit-image, and what has to hold for any images."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import plain_figures as plain
import pytest
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from batchfuse import metrics
from batchfuse.errors import BatchfuseError
from batchfuse.metrics import images
from batchfuse.metrics.coupling import information
from batchfuse.metrics.distribution import Distribution, rescaled
from batchfuse.metrics.features import cosines, meyer_taps, wavelets
from batchfuse.metrics.fmi import feature_information

Gray = NDArray[np.uint8]


def noise(shape: tuple[int, int], seed: int) -> Gray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def photograph(shape: tuple[int, int], seed: int, contrast: float = 90) -> Gray:
    """Waves and a little noise; with much contrast it is saturated over large parts."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = np.sin(x / 5 + rng.uniform(0, 6)) * np.cos(y / 7 + rng.uniform(0, 6))
    return np.clip(128 + contrast * waves + rng.normal(0, 4, shape), 0, 255).astype(np.uint8)


def night(shape: tuple[int, int], seed: int) -> Gray:
    """Black but for a lamp."""
    image = np.zeros(shape, np.uint8)
    image[shape[0] // 3 :, shape[1] // 2 :] = photograph(shape, seed, 8)[shape[0] // 3 :, shape[1] // 2 :]
    image[5:9, 6:9] = 255
    return image


def constant(shape: tuple[int, int], value: int) -> Gray:
    return np.full(shape, value, np.uint8)


SHAPE, ODD = (45, 50), (47, 45)
A, B = photograph(SHAPE, 1), photograph(SHAPE, 2)
MEAN = ((A.astype(int) + B + 1) // 2).astype(np.uint8)
CASES: dict[str, list[Gray]] = {
    "noise": [noise(SHAPE, seed) for seed in (1, 2, 3)],
    "mean": [MEAN, A, B],
    "maximum": [np.maximum(A, B), A, B],
    "the first source": [A, A, B],
    "the second source": [B, A, B],
    "all equal": [A, A, A],
    "odd sides": [photograph(ODD, seed) for seed in (1, 2, 3)],
    "saturated": [photograph(SHAPE, seed, 900) for seed in (1, 2, 3)],
    "nights": [night(SHAPE, seed) for seed in (1, 2, 3)],
    "a night and a day": [np.maximum(night(SHAPE, 1), A), night(SHAPE, 1), A],
    "a black source": [MEAN, constant(SHAPE, 0), B],
    "a white source": [MEAN, constant(SHAPE, 255), B],
    "constant fused": [constant(SHAPE, 9), A, B],
    "constants": [constant(SHAPE, value) for value in (3, 7, 200)],
    "three sources": [MEAN, A, B, noise(SHAPE, 3)],
}
"""Fused image and sources."""
LOOPS = ("ssim_a", "q_abf", "q_abf_255", "ms_ssim", "mi", "vif")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", LOOPS)
def test_a_figure_equals_its_plainest_loop(name: str, case: str) -> None:
    loop: Callable[..., float] = getattr(plain, name)
    assert metrics.FIGURES[name](*CASES[case]) == pytest.approx(loop(*CASES[case]), abs=1e-11, nan_ok=True)


@pytest.mark.parametrize("case", ["noise", "mean", "odd sides", "saturated", "nights", "a night and a day"])
def test_scd_equals_numpys_correlation(case: str) -> None:
    assert metrics.scd(*CASES[case]) == pytest.approx(plain.scd(*CASES[case]), abs=1e-12)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["en", "ag", "sf"])
def test_a_figure_of_one_image_equals_its_plainest_loop(name: str, case: str) -> None:
    fused = CASES[case][0]
    loop: Callable[..., float] = getattr(plain, name)
    assert getattr(metrics, name)(fused) == pytest.approx(loop(fused), abs=1e-12)
    assert metrics.sd(fused) == pytest.approx(np.std(fused.astype(float)), abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_ssim_equals_that_of_scikit_image_over_continued_edges(case: str) -> None:
    fused, source, *_ = CASES[case]
    _, found = structural_similarity(
        *(np.pad(image, 5, mode="edge").astype(float) for image in (fused, source)),
        gaussian_weights=True,
        use_sample_covariance=False,
        sigma=1.5,
        data_range=255,
        full=True,
    )
    assert metrics.ssim(fused, source) == pytest.approx(found[5:-5, 5:-5].mean(), abs=1e-10)


def test_reconstruction_figures_are_those_of_fractions() -> None:
    error = np.mean((A / 255 - B / 255) ** 2)
    assert metrics.mse(A, B) == pytest.approx(error, rel=1e-12)
    assert metrics.psnr(A, B) == pytest.approx(10 * np.log10(1 / error), rel=1e-12)
    assert metrics.psnr(A, A) == math.inf


# --- FMI ----------------------------------------------------------------------------------------


def quantised(seed: int, levels: int) -> list[NDArray[np.float64]]:
    """Features of few levels: many windows are flat, and many are equal to the fused one."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, levels, (13, 16)) / max(levels - 1, 1) for _ in range(4)]


FEATURES = {
    "cosines": [cosines(image[:14, :17]) for image in CASES["mean"]],
    "cosines of constants": [cosines(image[:12, :12]) for image in CASES["constants"]],
    "wavelets": [wavelets(image)[40:54, 60:77] for image in CASES["mean"]],
    "wavelets of a night": [wavelets(image)[45:60, 45:60] for image in CASES["nights"]],
    "wavelets of constants": [wavelets(image)[66:78, 66:78] for image in CASES["constants"]],
    "pixels of a night": [image[2:14, 2:14] / 255 for image in CASES["a night and a day"]],
    "the first source": [cosines(image[:9, :9]) for image in CASES["the first source"]],
    "the second source": [cosines(image[:9, :9]) for image in CASES["the second source"]],
    "two levels": quantised(1, 2),
    "three levels": quantised(2, 3),
    "mostly one level": [np.floor(features * 1.1) for features in quantised(3, 9)],
    "wide magnitudes": [10 ** (8 * features) for features in quantised(4, 99)],
}


@pytest.mark.parametrize("case", FEATURES)
def test_windows_measured_together_equal_the_loop_that_overwrites_one(case: str) -> None:
    found = feature_information(*FEATURES[case])
    assert found == pytest.approx(plain.feature_information(*FEATURES[case]), abs=1e-11)


def test_the_sparse_form_equals_all_81_terms_for_any_two_windows() -> None:
    rng = np.random.default_rng(5)
    powers = rng.choice([0.3, 1, 3, 12], 800)
    p, q = (rescaled(rng.random((9, 800)) ** powers) for _ in range(2))
    q[:, ::3] = rescaled(q[:, ::3] + 2 * p[:, ::3])  # alike
    q[:, 1::3] = rescaled(q[:, 1::3] - 2 * p[:, 1::3])  # opposite
    found = information(Distribution.of(p), Distribution.of(q))
    wanted = [plain.window_information(s, f) for s, f in zip(p.T, q.T, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


def test_windows_are_read_column_by_column() -> None:
    turned = [np.ascontiguousarray(features.T) for features in FEATURES["cosines"]]
    assert abs(feature_information(*turned) - feature_information(*FEATURES["cosines"])) > 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (21, 16)])
def test_cosine_features_are_a_product_of_matrices(shape: tuple[int, int]) -> None:
    np.testing.assert_allclose(cosines(noise(shape, 1)), plain.cosines(noise(shape, 1)), atol=1e-13)


@pytest.mark.parametrize("shape", [(1, 2), (7, 10), (12, 5)])
def test_wavelet_features_equal_a_convolution_by_hand(shape: tuple[int, int]) -> None:
    found = wavelets(noise(shape, 1))
    assert found.shape == tuple(2 * ((extent + 101) // 2) for extent in shape)
    np.testing.assert_allclose(found, plain.wavelets(noise(shape, 1)), atol=1e-12)


def test_the_meyer_filter_is_the_transform_of_its_response() -> None:
    np.testing.assert_allclose(meyer_taps(), plain.taps(), atol=1e-15)
    assert meyer_taps()[50] == pytest.approx(0.743751, abs=5e-7)


def test_flat_parts_of_an_image_have_exactly_equal_wavelets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchfuse.metrics.features.BLOCK", 300)
    image = noise((137, 241), 1)
    image[:, 20:] = 255
    right = wavelets(image)[:119, 171 + 70 : 171 + 115]  # cH, away from both ends of the flat part
    assert np.unique(right).size == 1


# --- any images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["mean", "odd sides", "a night and a day"])
def test_the_order_of_the_sources_does_not_matter(case: str) -> None:
    fused, a, b = CASES[case]
    one, other = (metrics.figures(fused, *pair, names=metrics.FIGURES) for pair in ((a, b), (b, a)))
    assert one == pytest.approx(other, abs=1e-12)


def test_an_image_is_most_like_itself() -> None:
    found = metrics.figures(A, A, A, names=metrics.FIGURES)
    assert {name: found[name] for name in ("ssim_a", "fmi_dct", "fmi_w", "ms_ssim", "vif")} == pytest.approx(
        {"ssim_a": 1, "fmi_dct": 1, "fmi_w": 1, "ms_ssim": 1, "vif": 2}
    )
    assert found["mi"] == pytest.approx(2 * metrics.en(A))
    assert found["q_abf_255"] == pytest.approx(0.9994 * 0.9879 / (1 + np.exp(-4.4)), abs=1e-5)
    assert found["q_abf"] < 0.6  # ties count nearly nothing on fractions
    assert math.isnan(found["scd"])


def test_constant_images_have_the_documented_figures() -> None:
    found = metrics.figures(*CASES["constants"], names=metrics.FIGURES)
    assert {name for name in found if math.isnan(found[name])} == {"scd", "vif"}
    assert found["en"] == found["sd"] == found["ag"] == found["sf"] == found["mi"] == 0
    black = metrics.figures(*[constant(SHAPE, 0)] * 3, names=metrics.FIGURES)
    assert {name for name in black if math.isnan(black[name])} == {"scd", "vif", "q_abf", "q_abf_255"}
    assert black["ssim_a"] == black["ms_ssim"] == black["fmi_dct"] == black["fmi_w"] == 1


@pytest.mark.parametrize(
    ("shape", "undefined"),
    [
        ((1, 1), {"q_abf", "q_abf_255", "scd", "fmi_dct", "ms_ssim", "ag", "sf", "vif"}),
        ((1, 60), {"fmi_dct", "ms_ssim", "ag", "sf", "vif"}),
        ((2, 3), {"fmi_dct", "ms_ssim", "vif"}),
        ((3, 3), {"ms_ssim", "vif"}),
        ((40, 41), {"ms_ssim", "vif"}),
        ((41, 41), {"ms_ssim"}),
        ((43, 60), {"ms_ssim"}),
        ((44, 44), set()),
    ],
)
def test_figures_of_images_that_are_too_small_are_not_numbers(
    shape: tuple[int, int], undefined: set[str]
) -> None:
    found = metrics.figures(*(noise(shape, seed) for seed in (1, 2, 3)), names=metrics.FIGURES)
    assert {name for name in found if math.isnan(found[name])} == undefined


def test_an_inverted_image_has_no_ms_ssim() -> None:
    assert math.isnan(metrics.ms_ssim(255 - A, A, A))


def test_three_sources_are_measured_where_the_definition_allows() -> None:
    fused, a, b, c = CASES["three sources"]
    found = metrics.figures(fused, a, b, c, names=metrics.FIGURES)
    assert [name for name in found if math.isnan(found[name])] == ["scd"]
    assert found["ssim_a"] == pytest.approx(np.mean([metrics.ssim(fused, s) for s in (a, b, c)]))
    assert found["mi"] == pytest.approx(sum(metrics.mi(fused, s) for s in (a, b, c)))
    with pytest.raises(BatchfuseError, match="SCD is defined for two sources, not for 3"):
        metrics.scd(fused, a, b, c)


@pytest.mark.parametrize("rows", [1, 7])
def test_the_size_of_the_strips_does_not_matter(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = metrics.figures(*CASES["odd sides"], names=metrics.FIGURES)
    monkeypatch.setattr(images, "ROWS", rows)
    monkeypatch.setattr(images, "PIXELS", 1)
    monkeypatch.setattr("batchfuse.metrics.fmi.WINDOWS", 50)
    monkeypatch.setattr("batchfuse.metrics.features.BLOCK", 100)
    assert metrics.figures(*CASES["odd sides"], names=metrics.FIGURES) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64, np.uint16])
def test_the_type_of_the_pixels_does_not_matter(dtype: type) -> None:
    converted = [image.astype(dtype) for image in CASES["odd sides"]]
    bytes_ = metrics.figures(*CASES["odd sides"], names=metrics.FIGURES)
    assert metrics.figures(*converted, names=metrics.FIGURES) == pytest.approx(bytes_, abs=1e-12)


def test_measuring_leaves_the_images_as_they_were() -> None:
    copies = [image.astype(float) for image in CASES["mean"]]
    metrics.figures(*copies, names=metrics.FIGURES)
    assert all((copy == image).all() for copy, image in zip(copies, CASES["mean"], strict=True))


# --- wrong input --------------------------------------------------------------------------------

BROKEN = A.astype(float)
BROKEN[3, 4] = np.nan


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ([A, A, B[:, :-1]], "image 2 is 45 x 49 but image 0 is 45 x 50 pixels"),
        ([A[None], A, B], r"image 0 is an array of shape \(1, 45, 50\)"),
        ([A[:0], A, B], r"image 0 is an array of shape \(0, 50\)"),
        ([A, A + 1j, B], "image 1 holds complex128"),
        ([A, A, BROKEN], "image 2 holds 1 pixels that are NaN or infinite"),
        ([A, np.ma.masked_equal(A, A[0, 0]), B], "image 1 is masked in places"),
    ],
)
@pytest.mark.parametrize("name", metrics.SIX)
def test_images_that_cannot_be_measured_are_refused_in_one_line(
    wrong: list[Gray], line: str, name: str
) -> None:
    with pytest.raises(BatchfuseError, match=line) as told:
        metrics.FIGURES[name](*wrong)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ([A, A, B.astype(float) * 200], r"image 2 holds values 6200 to 44800: figures want 0\.\.255"),
        ([A - 50.0, A, B], r"image 0 holds values -19 to 175: figures want 0\.\.255"),
        ([A / 255, A / 255, B / 255], r"fractions it seems: figures want 0\.\.255, so multiply them by 255"),
        ([A], "a fused image is measured against its sources: give them after it"),
    ],
)
@pytest.mark.parametrize("name", ["ssim_a", "q_abf", "q_abf_255", "fmi_dct", "fmi_w", "ms_ssim", "mi", "vif"])
def test_values_in_another_range_are_refused_where_the_range_matters(
    wrong: list[Gray], line: str, name: str
) -> None:
    with pytest.raises(BatchfuseError, match=line):
        metrics.FIGURES[name](*wrong)


def test_scd_is_free_of_scale() -> None:
    fused, a, b = CASES["mean"]
    assert metrics.scd(fused / 255, a / 255, b / 255) == pytest.approx(metrics.scd(fused, a, b), abs=1e-12)


def test_a_figure_nobody_knows_is_refused_with_those_there_are() -> None:
    with pytest.raises(BatchfuseError, match=r"no figure is called 'nabf': there are ssim_a, q_abf"):
        metrics.figures(A, A, B, names=["ssim_a", "nabf"])


def test_figures_are_the_six_of_the_tables_unless_others_are_named() -> None:
    assert tuple(metrics.figures(*CASES["mean"])) == metrics.SIX
    assert metrics.figures(*CASES["mean"], names=(name for name in ("sd",))) == {"sd": metrics.sd(MEAN)}
