"""`show`: the contact sheet, the facts, and each suspicion in a set that gives cause and in one that gives none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_folders import save, smooth
from PIL import Image

from simgan_fast import cli, show, simulate
from simgan_fast.data import PackedWriter
from simgan_fast.data import contact_sheet as sheets
from simgan_fast.data.set_facts import PixelFacts
from simgan_fast.data.suspicions import CHECKS, Evidence, suspicions
from simgan_fast.errors import InputError
from simgan_fast.jobs.show import SetFacts, chosen_rows, gaze_vectors
from simgan_fast.jobs.show_table import facts_table

SHARED = Path(__file__).parents[2] / "shared" / "data"
N, HEIGHT, WIDTH = 8, 12, 16

Set = dict[str, Any]


def clean() -> Set:
    """Images of noise, with labels as they should be."""
    rng = np.random.default_rng(0)
    gaze = rng.uniform(-0.3, 0.3, (N, 3))
    gaze[:, 2] = -1
    return {
        "images": rng.integers(0, 256, (N, 1, HEIGHT, WIDTH)).astype(np.uint8),
        "gaze": gaze / np.linalg.norm(gaze, axis=1, keepdims=True),
        "pupil": rng.uniform(2, 9, (N, 2)),
        "yaw": rng.uniform(-0.5, 0.5, (N, 1)),
    }


def write(folder: Path, content: Set, rejects: int = 0) -> Path:
    images, labels = content["images"], {k: v for k, v in content.items() if k != "images"}
    widths = {name: values.shape[1] for name, values in labels.items()}
    with PackedWriter(folder, images.shape[1:], widths, images.dtype.name) as writer:
        writer.add(images, [f"{i}.png" for i in range(len(images))], labels)
        for i in range(rejects):
            writer.reject(f"bad{i}.png", "the file is empty")
    return folder


def shown(tmp_path: Path, content: Set, **options: Any) -> SetFacts:
    return show(write(tmp_path / "set", content), tmp_path / "sheet.png", **options)


# Suspicions


def change(part: str, where: Any, value: Any) -> Callable[[Set], None]:
    def apply(content: Set) -> None:
        content[part][where] = value

    return apply


def repeat(content: Set, one_pixel: int = 0) -> None:
    content["images"][5] = content["images"][2]
    content["images"][5, 0, 3, 3] += one_pixel


def mirror(content: Set, sign: int, one_pixel: int = 0) -> None:
    content["images"][5] = content["images"][2, :, :, ::-1]
    content["images"][5, 0, 3, 3] += one_pixel
    content["gaze"][5] = content["gaze"][2] * [sign, 1, 1]


def symmetric(content: Set) -> None:
    left = content["images"][2, :, :, : WIDTH // 2]
    content["images"][2] = np.concatenate([left, left[:, :, ::-1]], axis=2)


def low_contrast(content: Set, spread: int) -> None:
    content["images"][3] = 128 + spread * (-1) ** np.indices((HEIGHT, WIDTH)).sum(0)


def sixteen_bits(content: Set, factor: int, offset: int = 0) -> None:
    content["images"] = content["images"].astype(np.uint16) * factor + offset


def values_to(content: Set, top: int) -> None:
    content["images"] %= top + 1


def clip(content: Set, share: float, value: int, border: bool = False) -> None:
    mask = np.random.default_rng(1).uniform(size=content["images"].shape) < share
    for edge in ((..., 0, slice(None)), (..., -1, slice(None)), (..., 0), (..., -1)):
        mask[edge] |= border
    content["images"][mask] = value


CASES: dict[str, tuple[Callable[[Set], None], set[str]]] = {
    "clean": (lambda _: None, set()),
    "one value": (change("images", 3, 77), {"constant"}),
    "nearly one value": (lambda s: low_contrast(s, 1), {"constant"}),
    "low contrast": (lambda s: low_contrast(s, 5), set()),
    "twice": (repeat, {"duplicate"}),
    "twice but for a pixel": (lambda s: repeat(s, 1), set()),
    "mirrored, gaze too": (lambda s: mirror(s, -1), {"mirrored"}),
    "mirrored, gaze not": (lambda s: mirror(s, 1), {"mirrored", "mirrored gaze"}),
    "mirrored but for a pixel": (lambda s: mirror(s, 1, 1), set()),
    "symmetric": (symmetric, set()),
    "gaze not of length 1": (change("gaze", 4, [0.0, 0.0, -2.0]), {"gaze length"}),
    "gaze without direction": (change("gaze", 4, 0.0), {"gaze length"}),
    "gaze rounded": (change("gaze", 4, [0.29, 0.0, -0.96]), set()),
    "gaze away": (change("gaze", 4, [0.6, 0.0, 0.8]), {"gaze away"}),
    "gaze far to the side": (change("gaze", 4, [0.8, 0.0, -0.6]), set()),
    "degrees": (change("yaw", 4, 25.0), {"degrees"}),
    "point outside": (change("pupil", 4, [WIDTH + 2.0, 5.0]), {"outside"}),
    "point above": (change("pupil", 4, [5.0, -2.0]), {"outside"}),
    "point at the border": (change("pupil", 4, [WIDTH + 0.5, -0.8]), set()),
    "points of fractions": (change("pupil", ..., 0.5 * np.eye(N, 2)), {"fractions"}),
    "label alike": (change("yaw", ..., 0.1), {"never varies"}),
    "a number of a label alike": (change("pupil", (..., 1), 3.0), set()),
    "8 bits in 16": (lambda s: sixteen_bits(s, 1), {"small range"}),
    "8 bits stretched to 16": (lambda s: sixteen_bits(s, 257), {"coarse"}),
    "16 bits": (lambda s: sixteen_bits(s, 256, 3), set()),
    "0 to 1": (lambda s: values_to(s, 1), {"small range", "clipped"}),
    "0 to 31": (lambda s: values_to(s, 31), {"small range"}),
    "0 to 63": (lambda s: values_to(s, 63), set()),
    "black and white": (change("images", ..., 0), {"constant", "duplicate", "small range"}),
    "clipped to white": (lambda s: clip(s, 0.3, 255), {"clipped"}),
    "clipped to black": (lambda s: clip(s, 0.3, 0), {"clipped"}),
    "some white": (lambda s: clip(s, 0.05, 255), set()),
    "a black background": (lambda s: clip(s, 0.3, 0, border=True), set()),
}


@pytest.mark.parametrize(("spoil", "expected"), CASES.values(), ids=CASES)
def test_suspicions(tmp_path: Path, spoil: Callable[[Set], None], expected: set[str]) -> None:
    content = clean()
    spoil(content)
    found = shown(tmp_path, content).suspicions
    assert {suspicion.check for suspicion in found} == expected


def test_labels_that_are_not_finite(tmp_path: Path) -> None:
    """No writer lets them pass, so the check is asked itself; another program may have written the set."""
    labels = {"gaze": np.full((N, 3), [0.0, 0.0, -1.0], np.float32), "x": np.eye(N, 1)}
    pixels = PixelFacts(*np.ones((2, 256), int), *np.arange(3 * N).reshape(3, N) + 9)
    for value, expected in ((0.5, []), (np.nan, ["not finite"]), (np.inf, ["not finite"])):
        labels["x"][3] = value
        evidence = Evidence((1, HEIGHT, WIDTH), "uint8", pixels, labels, gaze_vectors(labels))
        found = suspicions(evidence, [f"{i}.png" for i in range(N)])
        assert [s.check for s in found if s.check != "never varies"] == expected


def test_every_check_has_a_case() -> None:
    tried = set().union(*(expected for _, expected in CASES.values())) | {"not finite"}
    assert tried == {check.name for check in CHECKS}


def test_a_suspicion_counts_and_names(tmp_path: Path) -> None:
    content = clean()
    content["images"][3:7] = content["images"][2]
    (suspicion,) = shown(tmp_path, content).suspicions
    assert suspicion.count == 4
    assert suspicion.sentence == "4 images have exactly the pixels of an earlier one"
    assert suspicion.examples == [f"'{i}.png' (of '2.png')" for i in (3, 4, 5)]


def test_of_a_mirrored_pair_the_later_one_is_named(tmp_path: Path) -> None:
    content = clean()
    mirror(content, 1)
    for suspicion in shown(tmp_path, content).suspicions:
        assert (suspicion.count, suspicion.examples) == (1, ["'5.png' (of '2.png')"])


def test_one_image_alone(tmp_path: Path) -> None:
    content = {name: values[:1] for name, values in clean().items()}
    assert shown(tmp_path, content).suspicions == []


@pytest.mark.parametrize("domain", ["plain", "camera"])
def test_simulated_eyes_are_above_suspicion(tmp_path: Path, domain: str) -> None:
    simulate("eyes", tmp_path / "set", count=300, domain=domain)
    facts = show(tmp_path / "set", tmp_path / "sheet.png")
    assert facts.suspicions == []
    assert facts.pitch == pytest.approx((-25, 10), abs=1)
    assert facts.yaw == pytest.approx((-25, 25), abs=1)


@pytest.mark.parametrize(
    "folder",
    ["mpiigaze_p00/test", "mpiigaze_many_subjects", "senz3d_hands", "unityeyes_labelled"],
)
def test_published_images_are_above_suspicion(tmp_path: Path, folder: str) -> None:
    if not SHARED.is_dir():
        pytest.skip("shared/data is not there")
    assert show(SHARED / folder, tmp_path / "sheet.png").suspicions == []


# Facts


def test_numbers(tmp_path: Path) -> None:
    content = clean()
    facts = show(write(tmp_path / "set", content, rejects=2), tmp_path / "sheet.png")
    images = content["images"]
    assert (facts.images, facts.shape, facts.dtype) == (N, (1, HEIGHT, WIDTH), "uint8")
    assert (facts.low, facts.high, facts.rejects) == (images.min(), images.max(), 2)
    assert facts.mean == pytest.approx(images.mean())
    assert facts.spread == pytest.approx(images.std())
    assert facts.labels["pupil"].mean == pytest.approx(content["pupil"].mean(0))
    assert facts.labels["pupil"].max == pytest.approx(content["pupil"].max(0))


def test_blocks_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "set", clean())
    once = show(folder, tmp_path / "sheet.png")
    monkeypatch.setattr("simgan_fast.data.set_facts.BLOCK_BYTES", 3 * HEIGHT * WIDTH)
    assert show(folder, tmp_path / "sheet.png") == once


@pytest.mark.parametrize(("low", "high", "bins"), [(0, 255, 16), (7, 7, 1), (3, 12, 10)])
def test_histogram(tmp_path: Path, low: int, high: int, bins: int) -> None:
    content = clean()
    content["images"] = np.clip(content["images"], low, high)
    histogram = shown(tmp_path, content).histogram
    assert len(histogram) == bins
    assert (histogram[0].first, histogram[-1].last) == (low, high)
    for bin in histogram:
        within = (content["images"] >= bin.first) & (content["images"] <= bin.last)
        assert bin.count == within.sum()


@pytest.mark.parametrize("names", [("pitch", "yaw"), ("pitch_rad", "yaw_rad")])
def test_gaze_from_angles(names: tuple[str, str]) -> None:
    """Pitch upward, yaw to the image's left."""
    pitch, yaw = (
        {name: np.array([[value]])} for name, value in zip(names, (0.1, 0.2), strict=True)
    )
    ((x, y, z),) = gaze_vectors(pitch | yaw)
    assert x < 0 and y < 0 and z < 0


def test_the_table_fits_its_facts(tmp_path: Path) -> None:
    content = clean() | {"many": np.random.default_rng(0).normal(size=(N, 9))}
    content["images"][3] = 9
    text = facts_table(shown(tmp_path, content))
    assert f"images      {N} of 12x16, 1 channel, uint8; 0 rejected" in text
    for row in ("gaze.2", "pupil x", "pupil y", "yaw", "many (9)"):
        assert sum(line.startswith(f"  {row} ") for line in text.splitlines()) == 1
    assert "  - 1 image is of one value, or nearly so: '3.png'" in text
    assert max(map(len, text.splitlines())) < 100


# The sheet


def drawn(**labels: Any) -> np.ndarray:
    """A sheet with one black image of 35x55, without its margin; each pixel is four."""
    gaze = labels.pop("gaze", None)
    values = {name: np.array([value], np.float32) for name, value in labels.items()}
    black = np.zeros((1, 1, 35, 55), np.uint8)
    sheet = sheets.contact_sheet(
        black, ["a.png"], values, None if gaze is None else np.array([gaze])
    )
    inside = (
        slice(sheets.MARGIN, sheets.MARGIN + 4 * 35),
        slice(sheets.MARGIN, sheets.MARGIN + 4 * 55),
    )
    return sheet[inside].astype(int)


def lit(sheet: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """x and y of the pixels of about this colour, in pixels of the image."""
    rows, columns = np.nonzero(np.abs(sheet - colour).max(axis=2) < 40)
    return np.stack([columns, rows], axis=1) / 4 - 0.5


@pytest.mark.parametrize("along", [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_the_arrow_points_where_the_gaze_does(along: tuple[int, int]) -> None:
    """Gaze with x > 0 looks to the right of the image, with y > 0 down."""
    gaze = np.array([*np.multiply(along, 0.4), -(0.84**0.5)])
    from_pupil = lit(drawn(gaze=gaze, pupil=[20.0, 15.0]), sheets.ARROW) - [20, 15]
    onward = from_pupil @ along
    assert onward.max() > 6 and onward.min() > -1
    assert np.abs(from_pupil @ along[::-1]).max() < 2


def test_the_arrow_begins_in_the_middle_without_a_pupil() -> None:
    places = lit(drawn(gaze=np.array([0.4, 0.0, -0.9])), sheets.ARROW)
    assert places[:, 0].min() == pytest.approx(27, abs=1)
    assert places[:, 1].mean() == pytest.approx(17, abs=1)


def test_a_gaze_into_the_camera_is_a_dot() -> None:
    places = lit(drawn(gaze=np.array([0.0, 0.0, -1.0])), sheets.ARROW)
    assert len(places) and np.abs(places - [27, 17]).max() < 2


def test_a_gaze_across_stays_within_the_image() -> None:
    places = lit(drawn(gaze=np.array([1.0, 0.0, 0.0]), pupil=[50.0, 15.0]), sheets.ARROW)
    assert len({round(y) for y in places[:, 1]}) > 2  # its head is there


def test_points_are_where_they_are() -> None:
    sheet = drawn(eyelids=[10.0, 20.0, 40.0, 8.0], pupil=[30.0, 15.0])
    assert lit(sheet, sheets.PUPIL).mean(axis=0) == pytest.approx([30, 15], abs=0.3)
    lids = lit(sheet, sheets.LIDS)
    assert lids[lids[:, 0] < 25].mean(axis=0) == pytest.approx([10, 20], abs=0.3)
    assert lids[lids[:, 0] > 25].mean(axis=0) == pytest.approx([40, 8], abs=0.3)


def test_fingers_are_joined_to_the_palm() -> None:
    joints = np.full((14, 2), [27.0, 30.0])  # the palm and all others
    joints[[1, 0]] = [27, 20], [27, 5]  # middle and tip of the little finger
    places = lit(drawn(joints=joints.reshape(-1)), sheets.FINGERS[0][1])
    assert set(range(6, 29)) <= {round(y) for y in places[:, 1]}
    assert np.abs(places[:, 0] - 27).max() < 2


@pytest.mark.parametrize(
    "labels",
    [
        {"pupil": [np.nan, 3.0], "gaze": np.full(3, np.nan)},
        {"pupil": [1e30, -1e30], "gaze": np.array([0.0, 0.0, -1.0])},
        {"joints": [np.inf] * 28, "eyelids": [1.0, 2.0, 3.0]},
    ],
)
def test_labels_that_cannot_be_drawn(labels: dict[str, Any]) -> None:
    drawn(**labels)


@pytest.mark.parametrize(
    ("count", "size", "expected"),
    [
        (60, (35, 55), (6 * (4 * 35 + 24) - 8 + 24, 10 * (4 * 55 + 8) - 8 + 24)),
        (1, (480, 640), (165 + 16 + 24, 220 + 24)),
        (7, (1, 1), (2 * (220 + 24) - 8 + 24, 4 * (220 + 8) - 8 + 24)),
    ],
)
def test_sheet_size(count: int, size: tuple[int, int], expected: tuple[int, int]) -> None:
    images = np.zeros((count, 1, *size), np.uint8)
    assert sheets.contact_sheet(images, ["x"] * count).shape == (*expected, 3)


def test_a_pixel_becomes_a_square() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 1, 35, 55), np.uint8)
    sheet = sheets.contact_sheet(image, ["a.png"])[sheets.MARGIN :, sheets.MARGIN :, 1]
    np.testing.assert_array_equal(sheet[:140, :220], image[0, 0].repeat(4, 0).repeat(4, 1))


def test_sixteen_bits_are_stretched_and_the_background_stays() -> None:
    image = np.zeros((1, 8, 8), np.uint16)
    image[0, 2:6, 2:6] = np.arange(700, 716).reshape(4, 4)
    grey = sheets.displayed(image)[..., 0]
    assert grey[0, 0] == 0
    assert (grey[2, 2], grey[5, 5]) == (32, 223)
    image[image == 0] = 60000
    assert sheets.displayed(image)[0, 0, 0] == 255


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    content = {"images": np.random.default_rng(0).integers(0, 256, (3, channels, 9, 9), np.uint8)}
    assert shown(tmp_path, content).shape == (channels, 9, 9)


@pytest.mark.parametrize("name", ["\u76ee.png", "a\nb.png", "x" * 300, ""])
def test_names_of_all_kinds(name: str) -> None:
    sheets.contact_sheet(np.zeros((1, 1, 35, 55), np.uint8), [name])


def test_which_images_are_shown(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", clean())
    options = {"out": tmp_path / "sheet.png", "count": 3}
    assert show(folder, **options).shown == ["0.png", "4.png", "7.png"]
    drawn_once = show(folder, **options, seed=1).shown
    assert drawn_once == show(folder, **options, seed=1).shown
    assert len({tuple(show(folder, **options, seed=seed).shown) for seed in range(5)}) > 1
    assert len(show(folder, tmp_path / "sheet.png").shown) == N
    assert len(set(chosen_rows(1_200_000, 600))) == 600


# As a command


def run(*arguments: object) -> int:
    return cli.main(["show", *map(str, arguments)])


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = clean()
    content["images"][3] = 9
    write(tmp_path / "set", content)
    monkeypatch.chdir(tmp_path)
    assert run("set", "--json", "facts.json") == 0
    printed = capsys.readouterr()
    assert "of one value" in printed.out
    assert printed.err == ""  # no progress where there is none to wait for
    with Image.open("set-sheet.png") as sheet:
        assert sheet.format == "PNG"
    facts = json.loads(Path("facts.json").read_text())
    assert facts["images"] == N
    assert facts["suspicions"][0]["examples"] == ["'3.png'"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "facts.json",
        "set",
        "set-sheet.png",
    ]


def test_a_folder_of_images(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for i in range(3):
        save(folder / f"{i}.png", smooth(40, 60, 3, seed=i))
    (folder / "bad.png").write_bytes(b"")
    before = sorted(folder.iterdir())
    labels = tmp_path / "more.csv"
    labels.write_text("name,pupil.0,pupil.1\n" + "".join(f"{i}.png,{i},3\n" for i in range(3)))
    (tmp_path / "more.csv").write_text(labels.read_text() + "bad.png,0,0\n")
    out = tmp_path / "sheet.png"
    assert run(folder, "--size", "20x30", "--channels", "1", "--labels", labels, "--out", out) == 0
    facts = show(folder, out, size=(20, 30), channels=1, labels=labels)
    assert (facts.shape, facts.rejects, list(facts.labels)) == ((1, 20, 30), 1, ["pupil"])
    assert sorted(folder.iterdir()) == before


BAD = {
    "a missing set": (["nowhere"], "nowhere"),
    "no images": (["set", "--count", "0"], "count is 0"),
    "too many images": (["set", "--count", "601"], "1 to 600"),
    "a seed below 0": (["set", "--seed", "-1"], "seed is -1"),
    "a missing folder": (["set", "--out", "absent/sheet.png"], "make the folder absent"),
    "a folder nobody writes to": (["set", "--out", "/proc/sheet.png"], "/proc"),
    "a folder as file": (["set", "--out", "folder.png"], "is a folder"),
    "no PNG": (["set", "--out", "sheet.jpg"], r"ends in .png"),
    "inside of the set": (["set", "--out", "set/sheet.png"], "would lie in the set"),
    "JSON inside of the set": (["set", "--json", "set/facts.json"], "would lie in the set"),
    "one file for both": (["set", "--out", "a.png", "--json", "a.png"], "name two files"),
    "another size": (["set", "--size", "5x5"], "not resized"),
}


@pytest.mark.parametrize(("arguments", "message"), BAD.values(), ids=BAD)
def test_bad_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    write(tmp_path / "set", clean())
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run(*arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert sorted(tmp_path.rglob("*")) == before


def test_the_current_folder_as_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(tmp_path / "set", clean()))
    with pytest.raises(InputError, match="would lie in the set"):
        show(".")
    assert show(".", tmp_path / "sheet.png").images == N
