"""From image files to a packed set: pixels, sizes, labels that move, and whatever can be wrong."""

from __future__ import annotations

import importlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from image_folders import DECODERS, needs_dali, packed, save, smooth
from PIL import Image

from simgan_fast.data import decode, decode_dali, parallel
from simgan_fast.data.decode_dali import BATCH, DaliLoader
from simgan_fast.data.image_files import Rejected, inspect_file
from simgan_fast.data.ingest import ingest
from simgan_fast.data.readers import Sample
from simgan_fast.data.readers.folder import FolderReader
from simgan_fast.errors import InputError


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "images"
    path.mkdir()
    return path


# Pixels


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("suffix", "channels"), [("png", 1), ("png", 3), ("jpg", 1), ("jpg", 3)])
def test_pixels_are_the_files(folder, decoder, suffix, channels):
    originals = [smooth(9, 14, channels, seed=i) for i in range(5)]
    for i, pixels in enumerate(originals):
        save(
            folder / f"{i}.{suffix}",
            pixels,
            **({"quality": 95, "subsampling": 0} if suffix == "jpg" else {}),
        )
    result = packed(folder, decoder=decoder)
    assert result.shape == (channels, 9, 14)
    expected = np.stack(originals).reshape(5, 9, 14, channels).transpose(0, 3, 1, 2)
    # JPEG at quality 95: up to 8 levels away from the original here, PNG none.
    np.testing.assert_allclose(
        result.images().astype(int), expected, atol=10 if suffix == "jpg" else 0
    )


@needs_dali
@pytest.mark.parametrize("size", [None, (35, 55), (90, 70)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_dali_and_pillow_agree(folder, size, channels, suffix):
    for i in range(4):
        save(folder / f"{i}.{suffix}", smooth(60, 48, 3, seed=i))
    one, other = (
        ingest(FolderReader(folder), folder.parent / d, size=size, channels=channels, decoder=d)
        for d in ("dali", "pillow")
    )
    difference = np.abs(one.images().astype(int) - other.images().astype(int))
    # 1 measured without resizing, 2 with: DALI cuts the fraction off a colour PNG's grey.
    assert difference.max() <= 2


@pytest.mark.parametrize("decoder", DECODERS)
def test_size_is_height_then_width(folder, decoder):
    """A bright upper right quarter stays one, in an image 35 high and 55 wide."""
    pixels = np.zeros((36, 60), np.uint8)
    pixels[:18, 30:] = 200
    save(folder / "a.png", pixels)
    result = packed(folder, size=(35, 55), decoder=decoder)
    assert result.shape == (1, 35, 55)
    image = result.images()[0, 0]
    assert (image[:16, 30:] == 200).all()
    assert (image[19:] == 0).all()
    assert (image[:, :25] == 0).all()


@pytest.mark.parametrize("decoder", DECODERS)
def test_shrinking_is_antialiased(folder, decoder):
    """Noise shrunk tenfold is nearly even (a spread of 6); unfiltered it would keep 37."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 80)).astype(np.uint8)
    save(folder / "a.png", noise)
    assert packed(folder, size=(6, 8), decoder=decoder).images().std() < 20


@pytest.mark.parametrize("decoder", DECODERS)
def test_pixel_labels_move_with_the_pixels(folder, decoder):
    """The brightest spot is labelled before the resize, and the label still hits it after."""
    y, x = np.mgrid[:40, :60]
    save(folder / "a.png", (250 * np.exp(-((y - 25) ** 2 + (x - 15) ** 2) / 90)).astype(np.uint8))
    (folder / "labels.csv").write_text("name,pupil.0,pupil.1,gaze\na.png,15,25,15\n")
    result = packed(folder, size=(80, 30), decoder=decoder)
    row, column = np.unravel_index(result.images()[0, 0].argmax(), (80, 30))
    np.testing.assert_allclose(result.labels["pupil"], [[15.5 / 2 - 0.5, 25.5 * 2 - 0.5]])
    assert abs(result.labels["pupil"][0] - [column, row]).max() <= 1
    assert result.labels["gaze"].tolist() == [[15]]


@pytest.mark.parametrize("decoder", DECODERS)
def test_kinds_of_files(folder, decoder):
    """Alpha goes, palettes are colours, 1 bit is black and white, EXIF turns images upright."""
    colour = Image.fromarray(smooth(8, 12, 3))
    alpha = Image.fromarray(np.full((8, 12), 40, np.uint8))
    rgba, grey_alpha = colour.copy(), colour.convert("L")
    rgba.putalpha(alpha)
    grey_alpha.putalpha(alpha)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: turn by 90 degrees clockwise
    kinds = {
        "alpha.png": (rgba, {}, np.asarray(colour)),
        "palette.png": (colour.quantize(200), {}, np.asarray(colour.quantize(200).convert("RGB"))),
        "turned.png": (colour.rotate(90, expand=True), {"exif": exif}, np.asarray(colour)),
        "grey.png": (grey_alpha, {}, np.asarray(colour.convert("L").convert("RGB"))),
        "bits.png": (colour.convert("1"), {}, np.asarray(colour.convert("1").convert("RGB"))),
    }
    for name, (image, options, _) in kinds.items():
        save(folder / name, image, **options)
    result = packed(folder, channels=3, decoder=decoder)
    for name, pixels in zip(result.names, result.images(), strict=True):
        np.testing.assert_array_equal(pixels.transpose(1, 2, 0), kinds[name][2], err_msg=name)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_turned_jpeg_gives_its_upright_size(folder, decoder):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(folder / "a.jpg", Image.fromarray(smooth(8, 12)).rotate(90, expand=True), exif=exif)
    assert packed(folder, decoder=decoder).shape == (1, 8, 12)


@pytest.mark.parametrize("padding", [0, 60_000])
def test_exif_is_found_wherever_it_stands(padding):
    """In a small file, and in a large one behind another segment; and a file without has none."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for options, expected in (({"exif": exif}, True), ({}, False)):
        data = io.BytesIO()
        Image.fromarray(smooth(8, 12)).save(data, "JPEG", **options)
        comment = b"\xff\xfe" + struct.pack(">H", padding + 2) + b"\xff\xda" * (padding // 2)
        whole = data.getvalue()[:2] + comment + data.getvalue()[2:]
        assert decode.has_exif(whole) is expected
        pixels, info = decode.decode_file(whole, 1)
        assert (info.height, info.width) == pixels.shape == ((12, 8) if expected else (8, 12))
    assert decode.has_exif(b"\xff\xd8" + bytes(100_000)), "what cannot be followed is Pillow's"


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("size", [None, (20, 10)])
def test_sixteen_bit_grey_stays_sixteen_bits(folder, decoder, size):
    pixels = (smooth(10, 20).astype(np.uint16) * 257) ^ 0x5A
    save(folder / "a.png", pixels)
    result = packed(folder, decoder=decoder, size=size)
    assert result.dtype == "uint16"
    assert result.info["value_range"] == [0, 65535]
    if size is None:
        np.testing.assert_array_equal(result.images()[0, 0], pixels)
    else:
        assert abs(float(result.images().mean()) - pixels.mean()) < 300


@pytest.mark.parametrize("decoder", DECODERS)
def test_more_than_a_batch(folder, decoder):
    for i in range(BATCH + 3):
        save(folder / f"{i}.png", np.full((2, 3), i % 256, np.uint8))
    pixels = packed(folder, decoder=decoder).images()[:, 0, 1, 2]
    np.testing.assert_array_equal(pixels, np.arange(BATCH + 3) % 256)


def test_a_process_hands_over_few_pixels_at_a_time(folder, monkeypatch):
    monkeypatch.setattr("simgan_fast.data.ingest.CHUNK_BYTES", 3 * 20)
    counts = []
    real = parallel.loaded

    def counted(*arguments):
        for samples, chunk in real(*arguments):
            counts.append(len(samples))
            yield samples, chunk

    monkeypatch.setattr("simgan_fast.data.ingest.loaded", counted)
    for i in range(7):
        save(folder / f"{i}.png", np.full((4, 5), i, np.uint8))
    assert len(packed(folder)) == 7
    assert counts == [3, 3, 1]


# Bad files


def png(depth: int, colour: int, pixels: bytes) -> bytes:
    """A PNG of 16x20 with right checksums, whatever `pixels` are."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 20, 16, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def encoded(kind: str, image: Image.Image | None = None) -> bytes:
    stream = io.BytesIO()
    (image or Image.fromarray(smooth(16, 20, 3))).save(stream, kind)
    return stream.getvalue()


def with_one_byte_changed(data: bytes) -> bytes:
    return (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0x55]) + data[len(data) // 2 + 1 :]
    )


# Its checksums are right, and its compressed pixels are not: only a decoder finds out.
BAD_PIXELS = png(8, 0, b"no zlib")
SIXTEEN_BIT_COLOUR = png(16, 2, zlib.compress(bytes(16 * (1 + 20 * 6))))
BAD_FILES = {
    "cut.jpg": (encoded("JPEG")[:-150], "cut off"),
    "header.jpg": (encoded("JPEG")[:30], "damaged"),
    "cmyk.jpg": (encoded("JPEG", Image.new("CMYK", (20, 16))), "CMYK"),
    "cut.png": (encoded("PNG")[:-100], "cut off"),
    "no_end.png": (encoded("PNG")[:-12], "cut off"),
    "changed.png": (with_one_byte_changed(encoded("PNG")), "damaged"),
    "empty.png": (b"", "empty"),
    "words.png": (b"these are words\n" * 20, "not a PNG or JPEG"),
    "gif.png": (encoded("GIF"), "not a PNG or JPEG"),
    "deep.png": (SIXTEEN_BIT_COLOUR, "16-bit colour"),
}


@pytest.mark.parametrize("decoder", DECODERS)
def test_bad_files_are_listed_and_the_rest_goes_on(folder, decoder):
    bad = BAD_FILES | {"pixels.png": (BAD_PIXELS, "damaged")}
    for name, (data, _) in bad.items():
        (folder / name).write_bytes(data)
    (folder / "nowhere.png").symlink_to(folder / "absent")
    for i in range(5):
        save(folder / f"good{i}.png", np.full((16, 20, 3), i, np.uint8))
    result = packed(folder, channels=1, decoder=decoder)
    assert result.names == [f"good{i}.png" for i in range(5)]
    np.testing.assert_array_equal(result.images()[:, 0, 3, 3], range(5))
    reasons = dict(result.rejects)
    assert sorted(reasons) == sorted([*bad, "nowhere.png"])
    for name, (_, reason) in bad.items():
        assert reason in reasons[name]
    assert reasons["nowhere.png"] == "the image is missing"


@pytest.mark.parametrize("cut", range(2, 300, 23))
def test_a_cut_file_never_passes(cut):
    for kind in ("PNG", "JPEG"):
        data = encoded(kind)
        inspect_file(data)
        with pytest.raises(Rejected):
            inspect_file(data[:-cut])


def test_nothing_decodes(folder, tmp_path):
    (folder / "a.png").write_bytes(b"")
    (folder / "b.png").write_bytes(BAD_PIXELS)
    with pytest.raises(InputError, match=r"none of the 2 images .*a\.png: the file is empty"):
        packed(folder, decoder="pillow")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


MIXED = {
    "sizes": ([smooth(4, 5), smooth(5, 4)], r"0\.png 4x5, 1\.png 5x4.*--size 35x55"),
    "grey and colour": ([smooth(4, 5), smooth(4, 5, 3)], r"1 and 3 channels.*channels=1"),
    "8 and 16 bits": ([smooth(4, 5), smooth(4, 5).astype(np.uint16)], r"uint8 and uint16"),
}


@pytest.mark.parametrize(("images", "message"), MIXED.values(), ids=MIXED)
def test_mixed_images_are_one_sentence(folder, tmp_path, images, message):
    for i, pixels in enumerate(images):
        save(folder / f"{i}.png", pixels)
    with pytest.raises(InputError, match=message):
        packed(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("decoder", DECODERS)
def test_mixed_images_with_size_and_channels(folder, decoder):
    save(folder / "0.png", np.full((4, 5), 7, np.uint8))
    save(folder / "1.png", np.full((9, 2, 3), 8, np.uint8))
    result = packed(folder, size=(3, 6), channels=3, decoder=decoder)
    np.testing.assert_array_equal(result.images()[:, :, 1, 1], [[7] * 3, [8] * 3])


def test_bad_arguments(folder):
    save(folder / "a.png", smooth(4, 5))
    for options, message in (
        ({"size": (0, 5)}, "height, width"),
        ({"channels": 2}, "channels is 2"),
        ({"decoder": "cv2"}, "decoder is 'cv2'"),
    ):
        with pytest.raises(InputError, match=message):
            packed(folder, **options)


def test_without_dali(folder, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    save(folder / "a.png", smooth(4, 5))
    with pytest.raises(InputError, match="decoder='auto'"):
        packed(folder, decoder="dali")


def test_without_simplejpeg(folder, monkeypatch):
    monkeypatch.setattr(decode, "_simplejpeg", lambda: None)
    save(folder / "a.jpg", smooth(4, 5))
    assert packed(folder).shape == (1, 4, 5)


@needs_dali
@pytest.mark.parametrize("processes", [1, 2])
def test_parts_of_images_by_dali_are_those_by_pillow(folder, tmp_path, monkeypatch, processes):
    """One pipeline a thread, but for boxes that reach over the border, grey and colour, and a file that is cut."""
    built = []
    real = decode_dali._pipeline
    monkeypatch.setattr(
        decode_dali, "_pipeline", lambda *arguments: (built.append(1), real(*arguments))[1]
    )
    for i in range(40):
        save(folder / f"{i}.jpg", smooth(60, 80, 3, seed=i), quality=95)
    boxes = [(i, 2 * i, i + 21, 2 * i + 13 + i % 3) for i in range(20)] * 2
    boxes[3] = (-4, 50, 30, 70)
    results = {}
    for name, decoder in (("dali", "dali"), ("pillow", "pillow")):
        reader = BoxReader([str(folder / f"{i}.jpg") for i in range(40)], boxes)
        results[name] = ingest(
            reader, tmp_path / name, size=(12, 20), channels=1, decoder=decoder, processes=processes
        )
    assert 1 <= len(built) <= processes
    one, other = (results[name] for name in ("dali", "pillow"))
    assert one.names == other.names and len(one) == 40
    assert np.abs(one.images().astype(int) - other.images()).max() <= 1
    built.clear()
    (folder / "7.jpg").write_bytes((folder / "7.jpg").read_bytes()[:200])
    result = ingest(
        BoxReader([str(folder / f"{i}.jpg") for i in range(40)], boxes),
        tmp_path / "cut", size=(12, 20), channels=1, decoder="dali", processes=processes,
    )  # fmt: skip
    assert len(result) == 39 and result.rejects[0][0] == "7" and "cut off" in result.rejects[0][1]
    assert len(built) <= processes + 1, "the bad one is found without trying one by one"


@needs_dali
def test_dali_is_taken_for_many_large_files(folder, monkeypatch):
    taken = []
    real = DaliLoader.__init__
    monkeypatch.setattr(
        DaliLoader, "__init__", lambda *arguments: (taken.append(1), real(*arguments))[1]
    )
    monkeypatch.setattr("simgan_fast.data.ingest.WORTH_DALI", 3)
    for i in range(3):
        save(folder / f"{i}.jpg", smooth(130, 128, seed=i))
    assert len(packed(folder, size=(13, 13))) == 3 and taken
    taken.clear()
    for path in (folder.parent / "packed").iterdir():
        path.unlink()
    (folder / "2.jpg").unlink()
    assert len(packed(folder, size=(13, 13))) == 2 and not taken


# Other readers


@dataclass
class BoxReader:
    """Files of which a part is meant."""

    files: list[str]
    boxes: list[tuple[int, int, int, int]]
    labels: dict[str, int] = field(default_factory=dict)
    pixel_labels: frozenset[str] = frozenset()
    title: str = "boxes"

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Sample]:
        for i, (file, box) in enumerate(zip(self.files, self.boxes, strict=True)):
            yield Sample(str(i), file, box=box)


@dataclass
class ArrayReader:
    """What a reader of a .mat or .h5 file will be: pixels that are decoded already."""

    images: list[np.ndarray | Path]
    labels: dict[str, int] = field(default_factory=lambda: {"x": 1})
    pixel_labels: frozenset[str] = frozenset()
    title: str = "arrays"

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Sample]:
        for i, image in enumerate(self.images):
            yield Sample(f"day/{i}", image, {"x": np.array([i])}, source=f"row {i}")


def test_arrays_and_files_mix(tmp_path):
    path = save(tmp_path / "a.png", np.full((4, 5), 1, np.uint8))
    images = [np.full((4, 5), 0, np.uint8), path, np.full((4, 5, 1), 2, np.uint8)]
    result = ingest(ArrayReader(images), tmp_path / "packed")
    assert result.names == ["day/0", "day/1", "day/2"]
    assert result.sources == ["row 0", "row 1", "row 2"]
    np.testing.assert_array_equal(result.images()[:, 0, 0, 0], [0, 1, 2])
    np.testing.assert_array_equal(result.labels["x"], [[0], [1], [2]])


def test_arrays_are_resized_and_made_grey(tmp_path):
    images = [smooth(40, 60, 3), smooth(20, 30)]
    result = ingest(ArrayReader(images), tmp_path / "packed", size=(10, 15), channels=1)
    small = Image.fromarray(images[1]).resize((15, 10), Image.Resampling.BOX)
    assert np.abs(result.images()[1, 0].astype(int) - np.asarray(small)).max() < 12


def test_arrays_of_other_kinds_are_rejected(tmp_path):
    images = [smooth(4, 5), np.zeros((4, 5)), np.zeros((2, 4, 5, 1), np.uint8)]
    result = ingest(ArrayReader(images), tmp_path / "packed")
    assert [name for name, _ in result.rejects] == ["day/1", "day/2"]
    with pytest.raises(InputError, match="7 channels"):
        ingest(ArrayReader([np.zeros((4, 5, 7), np.uint8)]), tmp_path / "other", channels=1)
