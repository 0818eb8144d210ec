"""The figures once more, as the plainest loops: one window, one patch, one pixel at a time, from the text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[Any]


def gaussian_window(radius: int, sigma: float) -> Image:
    t = np.arange(-radius, radius + 1)
    window = np.exp(-(t[:, None] ** 2 + t**2) / (2 * sigma**2))
    return np.asarray(window / window.sum())


# --- SSIM ---------------------------------------------------------------------------------------


def ssim(a: Image, b: Image) -> float:
    window = gaussian_window(5, 1.5)
    x, y = (np.pad(image / 255, 5, mode="edge") for image in (a, b))
    total = 0.0
    for row in range(a.shape[0]):
        for column in range(a.shape[1]):
            p, q = (z[row : row + 11, column : column + 11] for z in (x, y))
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * p * p).sum() - mp**2, (window * q * q).sum() - mq**2
            cov = (window * p * q).sum() - mp * mq
            above = (2 * mp * mq + 0.01**2) * (2 * cov + 0.03**2)
            total += above / ((mp**2 + mq**2 + 0.01**2) * (vp + vq + 0.03**2))
    return total / a.size


def ssim_a(fused: Image, *sources: Image) -> float:
    return sum(ssim(fused, source) for source in sources) / len(sources)


# --- Q_abf --------------------------------------------------------------------------------------


def sobel(image: Image, row: int, column: int) -> tuple[float, float]:
    """Magnitude and angle; additions column by column, each from the bottom row up."""

    def at(r: int, c: int) -> float:
        inside = 0 <= r < image.shape[0] and 0 <= c < image.shape[1]
        return float(image[r, c]) if inside else 0.0

    gx = gy = 0.0
    for right in (-1, 0, 1):
        for down in (1, 0, -1):
            value = at(row + down, column + right)
            gx += -right * (2 - abs(down)) * value
            gy += down * (2 - abs(right)) * value
    return math.sqrt(gx * gx + gy * gy), math.pi / 2 if gx == 0 else math.atan(gy / gx)


def q_abf(fused: Image, *sources: Image, unit: float = 255) -> float:
    f, above, below = fused / unit, 0.0, 0.0
    for source in sources:
        s = source / unit
        for row in range(f.shape[0]):
            for column in range(f.shape[1]):
                (gs, ts), (gf, tf) = sobel(s, row, column), sobel(f, row, column)
                if gs == 0:
                    continue
                g = gf if gs == gf else min(gs, gf) / max(gs, gf)
                o = 1 - abs(ts - tf) / (math.pi / 2)
                q = 0.9994 / (1 + math.exp(-15 * (g - 0.5))) * 0.9879 / (1 + math.exp(-22 * (o - 0.8)))
                above, below = above + q * gs, below + gs
    return above / below if below else math.nan


def q_abf_255(fused: Image, *sources: Image) -> float:
    return q_abf(fused, *sources, unit=1)


# --- FMI ----------------------------------------------------------------------------------------


def feature_information(fused: Image, *sources: Image) -> float:
    """The loop over windows, which overwrites the fused window by its rescaled form."""
    total = 0.0
    for row in range(fused.shape[0] - 2):
        for column in range(fused.shape[1] - 2):
            f = fused[row : row + 3, column : column + 3].T.ravel()  # column by column
            for source in sources:
                s = source[row : row + 3, column : column + 3].T.ravel()
                if (s == f).all():
                    total += 1
                else:
                    f = rescaled(f)
                    total += window_information(rescaled(s), f)
    return total / ((fused.shape[0] - 2) * (fused.shape[1] - 2) * len(sources))


def rescaled(values: Image) -> Image:
    low, high = values.min(), values.max()
    return np.ones(9) if low == high else (values - low) / (high - low)


def window_information(s: Image, f: Image) -> float:
    p, q = s / plain_sum(s), f / plain_sum(f)
    running_p, running_q = (
        [plain_sum(p[: k + 1]) for k in range(9)],
        [plain_sum(q[: k + 1]) for k in range(9)],
    )
    mean_p, mean_q = plain_sum(p) / 9, plain_sum(q) / 9
    c = plain_sum((p - mean_p) * (q - mean_q))
    if c != 0:
        c /= math.sqrt(plain_sum((p - mean_p) ** 2) * plain_sum((q - mean_q) ** 2))
    bound = np.zeros((10, 10))
    covariance = 0.0
    for i in range(9):
        for j in range(9):
            both = running_q[i], running_p[j]
            bound[i + 1, j + 1] = min(both) if c >= 0 else max(sum(both) - 1, 0)
            covariance += bound[i + 1, j + 1] - both[0] * both[1]
    spread = deviation(p) * deviation(q)
    mix = c / (covariance / spread) if c != 0 and spread > 0 and covariance != 0 else 0.0
    joint = 0.0
    for i in range(9):
        for j in range(9):
            t = bound[i + 1, j + 1] - bound[i, j + 1] - bound[i + 1, j] + bound[i, j]
            joint += surprise(mix * t + (1 - mix) * q[i] * p[j])
    each = sum(map(surprise, p)) + sum(map(surprise, q))
    return 2 * (each - joint) / each if each > 0 else 0.0


def plain_sum(values: Image) -> float:
    total = 0.0
    for value in values:
        total += float(value)
    return total


def deviation(p: Image) -> float:
    i = np.arange(1, 10)
    return math.sqrt(max(plain_sum(i * i * p) - plain_sum(i * p) ** 2, 0))


def surprise(p: float) -> float:
    return -p * math.log2(abs(p)) if p else 0.0


def cosines(image: Image) -> Image:
    """The transform as a product of matrices."""

    def matrix(n: int) -> Image:
        k, x = np.arange(n)[:, None], np.arange(n)
        rows = np.sqrt(2 / n) * np.cos(np.pi * (2 * x + 1) * k / (2 * n))
        rows[0] /= np.sqrt(2)
        return np.asarray(rows)

    return np.asarray(matrix(image.shape[0]) @ (image / 255) @ matrix(image.shape[1]).T)


def taps() -> list[float]:
    """The inverse Fourier transform by the trapezoidal rule, on so fine a grid that nothing is left."""
    n = 1 << 14
    omega = (np.arange(n) + 0.5) * np.pi / n
    x = np.clip(3 * omega / np.pi - 1, 0, 1)
    response = np.cos(np.pi / 2 * x**4 * (35 - 84 * x + 70 * x**2 - 20 * x**3))
    w = np.array([np.mean(response * np.cos(k * omega)) for k in range(-50, 51)])
    return [*(w * math.sqrt(2) / w.sum()), 0.0]


def halved(line: Image, filtered_by: list[float]) -> list[float]:
    """One line, half-point symmetric, convolved; each second sample of the valid part."""
    n = len(line)
    mirrored = [*range(n), *range(n - 1, -1, -1)]
    extended = [line[mirrored[k % (2 * n)]] for k in range(-101, n + 101)]
    valid = [sum(filtered_by[k] * extended[m + 101 - k] for k in range(102)) for m in range(n + 101)]
    return valid[1::2]


def wavelets(image: Image) -> Image:
    w = taps()
    low = [w[101 - n] for n in range(102)]
    high = [(-1) ** (n + 1) * w[n] for n in range(102)]
    band = {}
    for name, along_x, along_y in (
        ("cA", low, low), ("cH", low, high), ("cV", high, low), ("cD", high, high)
    ):  # fmt: skip
        rows = np.array([halved(row, along_x) for row in image / 255])
        band[name] = np.array([halved(column, along_y) for column in rows.T]).T
    mosaic = np.block([[band["cA"], band["cH"]], [band["cV"], band["cD"]]])
    return np.asarray((mosaic - mosaic.min()) / (mosaic.max() - mosaic.min()))


# --- SCD ----------------------------------------------------------------------------------------


def scd(fused: Image, a: Image, b: Image) -> float:
    f, a, b = (image.astype(float) for image in (fused, a, b))
    return float(
        np.corrcoef((f - b).ravel(), a.ravel())[0, 1] + np.corrcoef((f - a).ravel(), b.ravel())[0, 1]
    )


# --- MEF-SSIM -----------------------------------------------------------------------------------


def ms_ssim(fused: Image, *sources: Image) -> float:
    weights = np.array([0.0448, 0.2856, 0.3001])
    images = [image.astype(float) for image in (fused, *sources)]
    found = 1.0
    for weight in weights / weights.sum():
        found *= patch_quality(*images) ** weight
        images = [half(image) for image in images]
    return found


def half(image: Image) -> Image:
    rows, columns = image.shape
    small = np.empty(((rows + 1) // 2, (columns + 1) // 2))
    for row in range(small.shape[0]):
        for column in range(small.shape[1]):
            down, right = min(2 * row + 1, rows - 1), min(2 * column + 1, columns - 1)
            corners = [image[r, c] for r in (2 * row, down) for c in (2 * column, right)]
            small[row, column] = sum(corners) / 4
    return small


def patch_quality(fused: Image, *sources: Image) -> float:
    eps, window, found = 2.0**-52, gaussian_window(5, 1.5), []
    for row in range(fused.shape[0] - 10):
        for column in range(fused.shape[1] - 10):
            part = np.s_[row : row + 11, column : column + 11]
            x = [source[part] for source in sources]
            centred = [patch - patch.mean() for patch in x]
            norms = [float(np.linalg.norm(patch)) for patch in centred]
            s = np.asarray(sum(x))
            r = (np.linalg.norm(s - s.mean()) + eps) / (sum(norms) + eps)
            power = min(math.tan(math.pi / 2 * (1 - eps if r > 1 else r)), 10)
            energies = [norm + 0.001 for norm in norms]
            v = [(e / 11) ** power + eps for e in energies]
            desired = np.asarray(
                sum(k / sum(v) * c / e for k, c, e in zip(v, centred, energies, strict=True))
            )
            if np.linalg.norm(desired) > 0:
                desired = max(energies) * desired / np.linalg.norm(desired)
            f = fused[part]
            md, mf = (window * desired).sum(), (window * f).sum()
            vd, vf = (window * (desired - md) ** 2).sum(), (window * (f - mf) ** 2).sum()
            cov = (window * (desired - md) * (f - mf)).sum()
            found.append((2 * cov + 58.5225) / (vd + vf + 58.5225))
    return float(np.mean(found))


# --- gray levels, neighbours, VIF -----------------------------------------------------------------


def entropy_of(values: list[Any]) -> float:
    counts: dict[Any, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return sum(surprise(count / len(values)) for count in counts.values())


def en(fused: Image) -> float:
    return entropy_of(fused.ravel().tolist())


def mi(fused: Image, *sources: Image) -> float:
    found, f = 0.0, fused.ravel().tolist()
    for source in sources:
        s = source.ravel().tolist()
        pairs = [(min(a, 254), min(b, 254)) for a, b in zip(f, s, strict=True)]
        found += entropy_of(f) + entropy_of(s) - entropy_of(pairs)
    return found


def ag(fused: Image) -> float:
    image = fused.astype(float)
    rows, columns = image.shape

    def slope(line: Image, at: int) -> float:
        before, after = max(at - 1, 0), min(at + 1, len(line) - 1)
        return float(line[after] - line[before]) / (after - before)

    total = 0.0
    for row in range(rows):
        for column in range(columns):
            dx, dy = slope(image[row], column), slope(image[:, column], row)
            total += math.sqrt((dx**2 + dy**2) / 2)
    return total / ((rows - 1) * (columns - 1))


def sf(fused: Image) -> float:
    image = fused.astype(float)
    return float(np.sqrt(np.mean(np.diff(image, axis=0) ** 2) + np.mean(np.diff(image, axis=1) ** 2)))


def windowed(image: Image, window: Image) -> Image:
    """A weighted sum of each window within the image."""
    n = len(window)
    rows, columns = image.shape[0] - n + 1, image.shape[1] - n + 1
    return np.array(
        [[(window * image[r : r + n, c : c + n]).sum() for c in range(columns)] for r in range(rows)]
    )


def vif(fused: Image, *sources: Image) -> float:
    return sum(fidelity(source.astype(float), fused.astype(float)) for source in sources)


def fidelity(reference: Image, image: Image) -> float:
    gained = offered = 0.0
    for scale in (1, 2, 3, 4):
        n = 2 ** (5 - scale) + 1
        window = gaussian_window(n // 2, n / 5)
        if scale > 1:
            reference, image = (windowed(x, window)[::2, ::2] for x in (reference, image))
        products = (reference, image, reference**2, image**2, reference * image)
        maps = [windowed(x, window).ravel().tolist() for x in products]
        for mr, mi_, rr, ii, ri in zip(*maps, strict=True):
            vr, vi, cov = max(rr - mr**2, 0), max(ii - mi_**2, 0), ri - mr * mi_
            g = cov / (vr + 1e-10)
            noise = vi - g * cov
            if vr < 1e-10:
                g, noise, vr = 0.0, vi, 0.0
            if vi < 1e-10:
                g, noise = 0.0, 0.0
            if g < 0:
                g, noise = 0.0, vi
            gained += math.log10(1 + g**2 * vr / (max(noise, 1e-10) + 2))
            offered += math.log10(1 + vr / 2)
    return gained / offered if offered else math.nan
