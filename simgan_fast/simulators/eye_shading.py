"""From placed eyes to grey pictures: skin, lids, lashes, eyeball, light. All in linear light."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from simgan_fast.simulators.eye_domains import Floats, Traits
from simgan_fast.simulators.eye_geometry import Eye, direction

SUPERSAMPLING = 2  # sub-pixels a side; every edge is also ramped over one sub-pixel
_LASHES = 36.0  # upper lashes from corner to corner, as stripes


def sub_pixel_grid(size: tuple[int, int], pitch: float) -> tuple[Floats, Floats]:
    """Columns [w'] and rows [h', 1] of the sub-pixel centres, mm from the picture's centre."""
    rows, columns = (
        ((np.arange(n * SUPERSAMPLING) + 0.5) / SUPERSAMPLING - n / 2) * pitch for n in size
    )
    return columns.astype(np.float32), rows.astype(np.float32)[:, None]


def _bump(x: Floats) -> Floats:
    """A bell of height 1 and half-width about 0.64; far cheaper than exp(-x^2)."""
    x = 1.0 / (1.0 + x * x)
    return x * x


def _step(x: Floats) -> Floats:
    """0 to 1, smooth, over about four units."""
    return 0.5 + 0.5 * x / np.sqrt(1.0 + x * x)


def _ramp(x: Floats) -> Floats:
    """Coverage of a sub-pixel whose centre lies x sub-pixels inside an edge."""
    return np.clip(x + 0.5, 0.0, 1.0)


def _above(x: Floats, softness: float) -> Floats:
    """max(x, 0) with a rounded corner."""
    return 0.5 * (x + np.sqrt(x * x + softness * softness))


@lru_cache(maxsize=64)
def _upsampling(coarse: int, fine: int) -> Floats:
    """Weights [fine, coarse] of a smoothstep interpolation between evenly spread knots."""
    at = np.linspace(0.0, coarse - 1.0, fine)
    left = np.minimum(at.astype(int), coarse - 2)
    part = at - left
    part = part * part * (3.0 - 2.0 * part)
    weights = np.zeros((fine, coarse), np.float32)
    weights[np.arange(fine), left] = 1.0 - part
    weights[np.arange(fine), left + 1] = part
    return weights


class Shader:
    """Shades one block of eyes on one grid; `picture` is the whole of its use."""

    def __init__(
        self, eye: Eye, traits: Traits, grid: tuple[Floats, Floats], rng: np.random.Generator
    ) -> None:
        self.eye, self.traits, self.rng = eye, traits, rng
        self.x, self.y = grid
        self.sub_pixel = float(self.x[1] - self.x[0])
        self.light = direction(
            np.radians(traits["light_pitch"][:, 0, 0]), np.radians(traits["light_yaw"][:, 0, 0])
        )
        # perpendicular distances to the lid margins, mm, positive inside the opening
        self.below_upper = (self.y - eye.upper.y) * eye.upper.across
        self.above_lower = (eye.lower.y - self.y) * eye.lower.across
        self.corner = 1.0 - np.abs(eye.along)
        self.tuft = np.radians(traits["cast_angle"])  # any angle: where lashes bunch

    def picture(self) -> Floats:
        """The block in linear light [n, h, w], before exposure and tone."""
        opening = (
            _ramp(self.below_upper / self.sub_pixel)
            * _ramp(self.above_lower / self.sub_pixel)
            * _ramp(self.corner * (15.0 / self.sub_pixel))
        )
        fine = self._skin()
        fine += opening * (self._eyeball() - fine)
        fine *= self._lashes()
        return self._coarse(fine) * self._cast_shadow()

    def _coarse(self, fine: Floats) -> Floats:
        """Mean over each pixel's sub-pixels."""
        rows = sum(fine[:, i::SUPERSAMPLING] for i in range(1, SUPERSAMPLING)) + fine[:, ::SUPERSAMPLING]
        both = sum(rows[..., i::SUPERSAMPLING] for i in range(1, SUPERSAMPLING)) + rows[..., ::SUPERSAMPLING]
        return both * np.float32(1.0 / SUPERSAMPLING**2)

    def _noise(self, cell: float) -> Floats:
        """Smooth normal noise [n, h, w] with knots `cell` mm apart."""
        height, width = len(self.y), len(self.x)
        knots_y = max(2, round(height * self.sub_pixel / cell) + 1)
        knots_x = max(2, round(width * self.sub_pixel / cell) + 1)
        knots = self.rng.standard_normal((len(self.light), knots_y, knots_x), dtype=np.float32)
        return _upsampling(knots_y, height) @ knots @ _upsampling(knots_x, width).T

    def _lambert(self, slope_x: Floats, slope_y: Floats, light: Floats) -> Floats:
        """Ambient plus diffuse light on a surface that rises toward the camera by these slopes."""
        lx, ly, lz = (light[:, i, None, None] for i in range(3))
        facing = -(slope_x * lx + slope_y * ly + lz)
        facing /= np.sqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
        return self.traits["ambient"] + self.traits["light"] * np.maximum(facing, 0.0)

    def _skin(self) -> Floats:
        """Skin with the relief of lids, fold, nose and brow."""
        traits, eye = self.traits, self.eye
        light = (eye.to_head @ self.light[:, :, None])[:, :, 0]
        # nose and brow stand out of the face, so they shift against the eye when the head turns
        shift = -9.0 * eye.to_head[:, 2, :2, None, None]
        across, down = self.x - shift[:, 0], self.y - shift[:, 1]
        above_crease = (eye.crease.y - self.y) * eye.crease.across
        slopes = self._slopes(self._relief(across, down, above_crease))
        skin = self._lambert(*slopes, light)
        skin *= traits["skin"] * self._skin_colour(above_crease, down)
        skin *= self._occlusion(across, down, above_crease)
        return skin

    def _relief(self, across: Floats, down: Floats, above_crease: Floats) -> Floats:
        """How far the skin stands out toward the camera, mm: eyeball, nose, temple, brow, cheek."""
        traits, eye = self.traits, self.eye
        dx, dy = self.x - eye.ball[:, 0], self.y - eye.ball[:, 1]
        relief = _above(5.0 - (dx * dx + dy * dy) / (2.7 * traits["eye_radius"]), 2.5)
        relief += traits["nose_height"] * _above(-15.0 - across, 5.0)
        relief -= 0.5 * _above(across - 13.0, 6.0)
        relief += traits["brow_ridge"] * _above(8.0 - traits["brow_distance"] - down, 3.0)
        relief += 0.35 * _above(down - 8.0, 5.0)
        relief += 1.2 * traits["crease_depth"] * _step(above_crease * 1.6) * _step(self.corner * 4.0 + 0.6)
        return relief

    def _lid_span(self) -> Floats:
        """1 over the lid, fading past its corners: where its crease and folds are seen."""
        return _step((self.corner + 0.08) * 11.0)

    def _slopes(self, relief: Floats) -> tuple[Floats, Floats]:
        """Finite differences of the relief along x and y."""
        scale = np.float32(1.0 / self.sub_pixel)
        slope_x, slope_y = np.empty_like(relief), np.empty_like(relief)
        np.subtract(relief[..., 1:], relief[..., :-1], out=slope_x[..., 1:])
        np.subtract(relief[:, 1:], relief[:, :-1], out=slope_y[:, 1:])
        slope_x[..., 0], slope_y[:, 0] = slope_x[..., 1], slope_y[:, 1]
        slope_x *= scale
        slope_y *= scale
        return slope_x, slope_y

    def _occlusion(self, across: Floats, down: Floats, above_crease: Floats) -> Floats:
        """Light that the surroundings keep away: nasal hollow, under the brow, above the crease."""
        traits = self.traits
        hollow = _bump((across + 17.0) * 0.14) * _bump((down + 1.0) * 0.11)
        under_brow = _bump(np.maximum(above_crease - 0.5, -0.6) * 0.35) * (above_crease > -0.1)
        bag = _bump((self.above_lower + 3.5) * 0.3)
        open_sky = 1.0 - 0.75 * traits["socket"] * hollow
        open_sky *= 1.0 - 0.40 * traits["socket"] * under_brow
        open_sky *= 1.0 - 0.20 * traits["socket"] * bag
        return open_sky

    def _skin_colour(self, above_crease: Floats, down: Floats) -> Floats:
        """Reflectance of the skin relative to its mean: patches, lines, socket, brow, wet rim."""
        traits, eye = self.traits, self.eye
        colour = 1.0 + traits["skin_patches"] * self._noise(7.0)
        colour += traits["skin_texture"] * (self._noise(0.9) + self._noise(2.5))
        line = _bump(above_crease * traits["crease_sharpness"]) * self._lid_span()
        colour *= 1.0 - traits["crease_depth"] * line
        colour *= 1.0 - traits["lower_fold"] * _bump((self.y - eye.fold.y) * 0.8)
        # the brow's lower edge sinks toward the temple
        brow = down + traits["brow_distance"] - 0.006 * (self.x - 2.0) ** 2
        colour *= 1.0 - traits["brow_depth"] * (0.8 + 0.25 * self._noise(0.9)) * _bump(brow * 0.28)
        edge = _bump(self.below_upper * traits["liner_sharpness"])
        colour *= 1.0 - traits["liner"] * edge * _ramp(self.corner * 8.0 + 0.7)
        lower_edge = _bump((self.above_lower + 0.2) * 1.2) * _ramp(self.corner * 8.0 + 0.3)
        colour *= 1.0 - 0.35 * traits["liner"] * lower_edge
        rim = _bump((self.above_lower + 0.5) * 2.4) * _ramp(self.corner * 10.0 - 0.5)
        colour += traits["wet_rim"] * rim
        return np.maximum(colour, 0.02)

    def _eyeball(self) -> Floats:
        """Sclera, iris, pupil, reflections and the lids' shadow on them."""
        traits, eye = self.traits, self.eye
        radius = traits["eye_radius"] * traits["zoom"]
        dx, dy = (self.x - eye.ball[:, 0]) / radius, (self.y - eye.ball[:, 1]) / radius
        lx, ly, lz = (self.light[:, i, None, None] for i in range(3))
        off_axis = dx * dx + dy * dy
        facing = dx * lx + dy * ly - lz * np.sqrt(np.maximum(1.0 - off_axis, 0.03))
        lit = traits["ambient"] + traits["light"] * (0.1 + 0.9 * np.maximum(facing, 0.0))
        colour = traits["sclera"] * (1.0 - traits["veins"] * np.abs(self._noise(1.6)))
        colour = colour * (1.0 - traits["sclera_shade"] * np.minimum(off_axis, 1.2))
        colour *= 1.0 - 0.4 * _bump((eye.along + 1.02) * 6.0) - 0.2 * _bump((1.0 - eye.along) * 6.0)
        iris, coverage = self._iris(lx, ly)
        colour += coverage * (iris - colour)
        shade = 1.0 - traits["lid_shadow"] * _bump(np.maximum(self.below_upper, 0.0) * 0.38)
        shade *= 1.0 - 0.5 * traits["lid_shadow"] * _bump(np.maximum(self.above_lower, 0.0) * 0.7)
        colour *= lit * shade
        return np.maximum(self._reflect(colour), 0.0)

    def _iris(self, lx: Floats, ly: Floats) -> tuple[Floats, Floats]:
        """Colour of the iris plane with the pupil [n, h, w], and how much of each pixel it covers."""
        traits, eye = self.traits, self.eye
        radius = traits["iris_radius"] * traits["zoom"]
        ax, ay, az = (eye.axis[:, i] for i in range(3))
        ux, uy = (self.x - eye.iris[:, 0]) / radius, (self.y - eye.iris[:, 1]) / radius
        uz = -(ux * ax + uy * ay) / az  # the point of the iris plane seen at this pixel
        rho = np.sqrt(ux * ux + uy * uy + uz * uz)
        coverage = _ramp((1.0 - rho) * (radius / np.maximum(self.sub_pixel, 0.7)))
        theta = np.arctan2(uy, ux)
        fibres = np.cos(11.0 * theta + 9.0 * traits["veins"] * 60.0) * (1.0 - rho)
        fibres += np.cos(23.0 * theta + 5.0 * rho) * (1.0 - rho) + 0.6 * self._noise(1.2)
        colour = traits["iris"] * (1.0 + traits["iris_texture"] * fibres)
        colour *= 1.0 - 0.45 * (ux * lx + uy * ly)  # light focused on the far side
        colour *= 1.0 - traits["limbus"] * _step((rho - 0.88) * 16.0)
        edge = (traits["pupil_ratio"] - rho) * (radius / max(self.sub_pixel, 0.25))
        colour += _ramp(edge) * (0.004 - colour)
        return colour, coverage

    def _reflect(self, colour: Floats) -> Floats:
        """Add the light's glint and a dim window, mirrored by the cornea (radius 7.8 mm)."""
        traits, eye = self.traits, self.eye
        half = self.light - np.array([0.0, 0.0, 1.0], np.float32)
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        cornea = eye.ball + eye.axis * (5.6 * traits["zoom"][:, None])
        spot = cornea + 7.8 * half[:, :, None, None] * traits["zoom"][:, None]
        x, y = self.x - spot[:, 0], self.y - spot[:, 1]
        distance = np.sqrt(x * x + y * y)
        colour += traits["glint"] * _ramp(
            (traits["glint_size"] - distance) / max(self.sub_pixel, 0.35)
        )
        window = _bump((self.x - cornea[:, 0] + 1.5) * 0.6) * _bump((self.y - cornea[:, 1] + 2.0) * 0.5)
        colour += traits["window"] * window
        return colour

    def _lashes(self) -> Floats:
        """What lashes let through [n, h, w]: stripes that fan out and point as the upper lid does."""
        traits, eye = self.traits, self.eye
        rise = traits["lash_length"] * np.sin(eye.lid_angle + np.radians(traits["lash_curl"]))
        rise = np.where(rise >= 0.0, np.maximum(rise, 0.4), np.minimum(rise, -0.4))
        upward = -self.below_upper / rise
        upper = self._stripes(upward, _LASHES) * (0.65 + 0.35 * eye.along)
        lower = self._stripes(self.above_lower * (-2.2 / traits["lash_length"]), 27.0)
        near = _ramp(self.corner * 9.0)
        return 1.0 - traits["lash_depth"] * near * (upper + 0.3 * lower)

    def _stripes(self, out: Floats, count: float) -> Floats:
        """Lashes at distance `out` (0 at the lid, 1 at the tips), thinning toward the tips."""
        root = self.eye.along * (1.0 - 0.30 * np.clip(out, 0.0, 1.0))
        phase = root * np.float32(np.pi * count / 2)
        comb = np.cos(phase + 2.5 * np.sin(root * 7.0)) + 0.7 * np.cos(1.43 * phase + self.tuft)
        taper = np.clip(1.0 - out, 0.0, 1.0)
        return np.where(out > -0.05, np.maximum(0.45 + 0.4 * comb, 0.0) * taper, 0.0)

    def _cast_shadow(self) -> Floats:
        """A soft shadow edge across the face [n, h, w], of hair or nose or a hat, at full pixels."""
        traits = self.traits
        angle = np.radians(traits["cast_angle"])
        x, y = self._coarse_axis(self.x), self._coarse_axis(self.y[:, 0])[:, None]
        beyond = x * np.cos(angle) + y * np.sin(angle) - traits["cast_offset"]
        return 1.0 - traits["cast_shadow"] * _step(beyond / traits["cast_width"])

    def _coarse_axis(self, fine: Floats) -> Floats:
        return fine.reshape(-1, SUPERSAMPLING).mean(1)
