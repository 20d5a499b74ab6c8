"""A webcam model: from linear light to the 8-bit, histogram-equalised crop of a normalised view.

It is specified in docs/simulator.md. Every step works about the picture's centre, so labels in
pixels stay true.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simgan_fast.errors import InputError
from simgan_fast.histogram import equalised
from simgan_fast.simulators.eye_domains import Floats, Range, spread

# ITU-T T.81, table K.1: the luminance quantisation that JPEG encoders scale by quality
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)


@dataclass(frozen=True)
class CameraSpec:
    """Ranges of the sensor model, drawn uniformly for each image; docs/simulator.md says why."""

    level: Range = (0.10, 0.40)  # mean linear signal after auto-exposure, 1 = saturation
    vignetting: Range = (0.0, 0.35)  # loss of light at the far corner
    defocus: Range = (0.35, 1.25)  # standard deviation in pixels of a 60-pixel-wide picture
    motion: Range = (0.0, 2.0)  # length of the smear, same pixels
    sensor_scales: tuple[float, ...] = (0.6, 0.75, 0.9, 1.1)  # sensor pixels per output pixel
    electrons: Range = (300.0, 6000.0)  # at saturation: shot noise is sqrt(signal / electrons)
    read_noise: Range = (0.0005, 0.006)  # standard deviation, 1 = saturation
    gamma: Range = (1.8, 2.4)  # encoding is signal ** (1 / gamma)
    jpeg_quality: Range = (60.0, 97.0)
    equalise: bool = True


WEBCAM = CameraSpec()


def camera_model(
    images: Floats,
    rng: np.random.Generator | int = 0,
    spec: CameraSpec = WEBCAM,
) -> NDArray[np.uint8]:
    """Photograph images with the bundled webcam model; the result is uint8 [n, 1, h, w].

    images: float [n, 1, h, w], linear light, 0 dark, any positive scale (exposure is automatic).
    rng: a generator, or a seed. Raises InputError for another shape or type, NaN, negative light.

    >>> camera_model(np.full((2, 1, 35, 55), 0.5, np.float32), rng=3).shape
    (2, 1, 35, 55)
    """
    light = _checked(images)[:, 0]
    if not isinstance(rng, np.random.Generator):
        rng = np.random.Generator(np.random.Philox(rng))
    if not len(light):
        return np.zeros(images.shape, np.uint8)
    draw = _Draw(rng, len(light))
    light = _blurred(_exposed(light, draw, spec), draw, spec)
    scale = rng.integers(len(spec.sensor_scales), size=len(light))
    out = np.empty(light.shape, np.uint8)
    for i, factor in enumerate(spec.sensor_scales):
        chosen = scale == i
        if chosen.any():
            out[chosen] = _sensed(light[chosen], factor, rng, spec)
    return (equalised(out) if spec.equalise else out)[:, None]


class _Draw:
    """Uniform numbers, one for each image: [n, 1, 1]."""

    def __init__(self, rng: np.random.Generator, n: int) -> None:
        self.rng, self.n = rng, n

    def __call__(self, bounds: Range) -> Floats:
        unit = self.rng.random((self.n, 1, 1), dtype=np.float32)
        return spread(bounds, unit)


def _checked(images: Floats) -> Floats:
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] != 1 or images.dtype.kind != "f":
        raise InputError(
            f"camera_model: images are {images.dtype} of shape {images.shape}; "
            "give float images [n, 1, h, w] in linear light"
        )
    if images.size and not (np.isfinite(images).all() and images.min() >= 0):
        raise InputError(
            "camera_model: images hold NaN, infinite or negative values; give linear light >= 0"
        )
    return images.astype(np.float32, copy=False)


def _exposed(light: Floats, draw: _Draw, spec: CameraSpec) -> Floats:
    """Auto-exposure to a drawn mean level, and the lens's fall-off about an off-centre axis."""
    height, width = light.shape[1:]
    y, x = np.linspace(-1, 1, height, dtype=np.float32), np.linspace(-1, 1, width, dtype=np.float32)
    centre_x, centre_y = draw((-1.0, 1.0)), draw((-1.0, 1.0))
    distance = (x - centre_x) ** 2 + (y[:, None] - centre_y) ** 2
    gain = draw(spec.level) / np.maximum(light.mean((1, 2), keepdims=True), 1e-6)
    exposed: Floats = light * gain * (1.0 - draw(spec.vignetting) * distance / 8.0)
    return exposed


def _blurred(light: Floats, draw: _Draw, spec: CameraSpec) -> Floats:
    """Defocus (a Gaussian) and motion (a straight smear), as one transfer function per image."""
    unit = light.shape[2] / 60.0
    sigma, smear = draw(spec.defocus) * unit, draw(spec.motion) * unit
    angle = draw((0.0, np.pi))
    top, left, padded = _mirrored(light, 8 * max(1, round(unit)))
    fy = np.fft.fftfreq(padded.shape[1]).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(padded.shape[2]).astype(np.float32)
    along = fx * np.cos(angle) + fy * np.sin(angle)
    transfer = np.exp(-2.0 * np.pi**2 * sigma**2 * (fx * fx + fy * fy)) * np.sinc(smear * along)
    blurred = np.fft.irfft2(np.fft.rfft2(padded) * transfer, s=padded.shape[1:])
    blurred = blurred[:, top : top + light.shape[1], left : left + light.shape[2]]
    return np.maximum(blurred.astype(np.float32), 0.0)


def _mirrored(light: Floats, border: int) -> tuple[int, int, Floats]:
    """Mirror at least `border` pixels around pictures, up to sides that are multiples of 8.

    Such sides make the Fourier transform fast (71 is prime, 72 is not). The first two results say
    where the picture begins.
    """
    before = [min(border, n) for n in light.shape[1:]]
    after = [b + -(n + 2 * b) % 8 for b, n in zip(before, light.shape[1:], strict=True)]
    sides = list(zip(before, after, strict=True))
    return before[0], before[1], np.pad(light, [(0, 0), *sides], mode="symmetric")


def _sensed(light: Floats, factor: float, rng: np.random.Generator, spec: CameraSpec) -> Floats:
    """Sample on the sensor, add noise, encode, compress, and resample to the picture's grid."""
    height, width = light.shape[1:]
    rows, columns = max(8, round(height * factor)), max(8, round(width * factor))
    signal = _resampling(height, rows) @ light @ _resampling(width, columns).T
    draw = _Draw(rng, len(light))
    variance = np.maximum(signal, 0.0) / draw(spec.electrons) + draw(spec.read_noise) ** 2
    signal = signal + np.sqrt(variance) * rng.standard_normal(signal.shape, dtype=np.float32)
    encoded = np.clip(signal, 0.0, 1.0) ** (1.0 / draw(spec.gamma)) * 255.0
    phase = int(rng.integers(8)), int(rng.integers(8))
    encoded = jpeg(np.rint(encoded), draw(spec.jpeg_quality)[:, 0, 0], phase)
    picture = _resampling(rows, height) @ encoded @ _resampling(columns, width).T
    rounded: Floats = np.rint(np.clip(picture, 0.0, 255.0))
    return rounded


@lru_cache(maxsize=64)
def _resampling(source: int, target: int) -> Floats:
    """Weights [target, source] of linear resampling about the common centre, edges repeated."""
    at = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0.0, source - 1.0)
    left = np.minimum(at.astype(int), source - 2)
    weights = np.zeros((target, source), np.float32)
    weights[np.arange(target), left] = 1.0 - (at - left)
    weights[np.arange(target), left + 1] = at - left
    return weights


def jpeg(images: Floats, quality: Floats, phase: tuple[int, int] = (0, 0)) -> Floats:
    """What JPEG's 8x8 transform and quantisation leave of grey images [n, h, w] in [0, 255].

    quality [n], 1 to 100: the table of ITU-T T.81 K.1 scaled as the IJG's encoder does. phase:
    row and column of the picture's corner in its first block. Entropy coding is lossless and left
    out.
    """
    n, height, width = images.shape
    top, left = phase
    bottom, right = -(top + height) % 8, -(left + width) % 8
    padded = np.pad(images - 128.0, ((0, 0), (top, bottom), (left, right)), mode="edge")
    shape = padded.shape
    blocks = padded.reshape(n, shape[1] // 8, 8, shape[2] // 8, 8).transpose(0, 1, 3, 2, 4)
    dct = _dct()
    table = _quantisation(np.asarray(quality, np.float32))[:, None, None]
    levels = np.rint(dct @ blocks @ dct.T / table) * table
    decoded = (dct.T @ levels @ dct).transpose(0, 1, 3, 2, 4).reshape(shape)
    inner = decoded[:, top : top + height, left : left + width]
    rounded: Floats = np.clip(np.rint(inner + 128.0), 0.0, 255.0)
    return rounded


def _quantisation(quality: Floats) -> Floats:
    """Quantisation tables [n, 8, 8] of the IJG's quality scale."""
    scale = np.where(quality < 50.0, np.floor(5000.0 / quality), 200.0 - 2.0 * quality)
    tables: Floats = np.clip(
        np.floor((_LUMINANCE * scale[:, None, None] + 50.0) / 100.0), 1.0, 255.0
    )
    return tables


@lru_cache(maxsize=1)
def _dct() -> Floats:
    """The orthonormal 8-point cosine transform."""
    k, i = np.mgrid[0:8, 0:8]
    rows = np.cos(np.pi * (2 * i + 1) * k / 16) * np.where(k == 0, np.sqrt(0.125), 0.5)
    basis: Floats = rows.astype(np.float32)
    return basis
