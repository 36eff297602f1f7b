"""Quality measured picture by picture, and the results as JSON and CSV."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lkdn_deploy import load
from lkdn_deploy.bench.quality import evaluation as quality
from lkdn_deploy.bench.quality.evaluation import Borders, Record, Results, Scores, Subject, bicubic, evaluate
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.metrics import psnr_rgb, psnr_y, ssim_rgb, ssim_y
from lkdn_deploy.imaging.resample import downsample, imresize
from lkdn_deploy.imaging.testsets import ImagePair, TestSet, find_sets
from lkdn_deploy.runtime.upscaler import TiledResult
from lkdn_deploy.samples import sample_pixels

PHOTOGRAPH = sample_pixels()[60:108, 90:150]


@pytest.fixture
def three(tmp_path: Path) -> TestSet:
    """A set of three pictures, of which the second is none."""
    for name, turns in (("a", 0), ("c", 1)):
        Image.fromarray(np.rot90(PHOTOGRAPH, turns)).save(tmp_path / f"{name}.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    (found,) = find_sets(tmp_path, 2)
    return replace(found, name="three")


def test_every_picture_is_measured_by_both_conventions(three: TestSet) -> None:
    first, second, third = evaluate(bicubic(2), three, Borders.of(2))
    low = downsample(PHOTOGRAPH, 2)
    image = imresize(low, 2)
    on_luma = psnr_y(image, PHOTOGRAPH, 2), ssim_y(image, PHOTOGRAPH, 2)
    expected = Scores(*on_luma, psnr_rgb(image, PHOTOGRAPH, 4), ssim_rgb(image, PHOTOGRAPH, 4))
    assert first == Record("three", "a", True, expected, (60, 48), 1, True)
    assert (third.image, third.size, third.error) == ("c", (48, 60), "")
    assert second.scores is None
    assert "b.png is not an image" in second.error


def test_the_average_is_over_what_was_measured(three: TestSet) -> None:
    results = Results(bicubic(2), Borders.of(2), list(evaluate(bicubic(2), three, Borders.of(2))))
    (one,) = results.averages
    assert (one.test_set, one.images, one.failed) == ("three", 2, 1)
    first, _, third = (record.scores for record in results.records)
    assert one.scores.psnr_y == pytest.approx((first.psnr_y + third.psnr_y) / 2, abs=1e-12)
    assert one.scores.ssim_rgb == pytest.approx((first.ssim_rgb + third.ssim_rgb) / 2, abs=1e-12)
    assert first.psnr_y != third.psnr_y


def test_a_border_replaces_both_and_what_is_too_small_for_it_fails(three: TestSet) -> None:
    first = next(evaluate(bicubic(2), three, Borders.of(2, 6)))
    image = imresize(downsample(PHOTOGRAPH, 2), 2)
    assert first.scores.psnr_y == psnr_y(image, PHOTOGRAPH, 6)
    assert first.scores.psnr_rgb == psnr_rgb(image, PHOTOGRAPH, 6)
    small, _, other = evaluate(bicubic(2), three, Borders.of(2, 19))
    assert all("50x50 or more" in each.error for each in (small, other))


def test_a_model_that_fails_on_a_picture_does_not_spoil_the_others(three: TestSet) -> None:
    whole = bicubic(2)

    def upscale(low: NDArray[np.uint8]) -> TiledResult:
        if low.shape[0] > low.shape[1]:
            msg = "the engine stopped"
            raise InputError(msg, "use smaller tiles")
        return whole.upscale(low)

    first, _, third = evaluate(replace(whole, upscale=upscale), three, Borders.of(2))
    assert first.scores is not None
    assert (third.scores, third.error, third.hint) == (None, "the engine stopped", "use smaller tiles")


def test_the_one_who_watches_sees_every_picture_that_was_made(three: TestSet) -> None:
    seen: list[tuple[Any, ...]] = []

    def see(picture: ImagePair, *arrays: NDArray[np.uint8]) -> None:
        seen.append((picture.name, *(array.shape for array in arrays)))

    list(evaluate(bicubic(2), three, Borders.of(2), seen=see))
    assert seen == [("a", (24, 30, 3), (48, 60, 3), (48, 60, 3)), ("c", (30, 24, 3), (60, 48, 3), (60, 48, 3))]


def test_a_network_is_told_by_its_session() -> None:
    session = load().session
    subject = quality.of_session("mine", session, tile=40)
    low = downsample(PHOTOGRAPH, 4)
    assert (subject.title, subject.backend, subject.precision) == ("mine_x4", session.backend, "fp32")
    tiled = subject.upscale(np.zeros((200, 166, 3), np.uint8))
    assert (subject.upscale(low).tiles, tiled.tiles, tiled.exact) == (1, 2, True)
    assert np.array_equal(subject.pixels(low), load()(low))
    gained = quality.of_session("mine", session, self_ensemble=True)
    assert np.array_equal(gained.pixels(low), load(self_ensemble=True)(low))
    assert not np.array_equal(gained.pixels(low), subject.pixels(low))
    assert gained.upscale(low).tiles == 1


def whatever(test_set: str, image: str, *figures: float) -> Record:
    return Record(test_set, image, False, Scores(*figures), (48, 48), 1, True)


SUBJECT = Subject("mine", 4, bicubic(4).upscale, "ort-cpu", "fp32", load().session.metadata)
RESULTS = Results(
    SUBJECT,
    Borders.of(4),
    [
        whatever("one", "a", 30, 0.75, 28, 0.5),
        whatever("one", "b", 34, 1.0, float("inf"), 1.0),
        Record("two", "a", True, error="gone", hint="look"),
    ],
)


def test_json_has_everything_and_is_valid_where_there_is_no_difference() -> None:
    text = json.dumps(quality.to_json([RESULTS], {"border": None, "tile": 8}, interrupted=True), allow_nan=False)
    result = json.loads(text)
    assert result["interrupted"] is True
    assert result["settings"] == {"border": None, "tile": 8}
    assert "as wide as the scale" in result["conventions"]["psnr_y, ssim_y"]
    assert "4 pixels, as at NTIRE" in result["conventions"]["psnr_rgb, ssim_rgb"]
    assert {"lkdn-deploy", "python", "numpy"} <= set(result["versions"])
    (model,) = result["models"]
    assert {"model": "mine", "scale": 4, "backend": "ort-cpu", "precision": "fp32"}.items() <= model.items()
    assert len(model["weights_sha256"]) == 64
    assert (model["artefact"]["model"], model["artefact"]["fused"]) == ("lkdn-s", True)
    assert model["borders"] == {"y": 4, "rgb": 4}
    one, two = model["sets"]
    assert one["average"] == {"psnr_y": 32, "ssim_y": 0.875, "psnr_rgb": "inf", "ssim_rgb": 0.75}
    assert one["records"][1]["psnr_rgb"] == "inf"
    assert one["records"][0]["size"] == [48, 48]
    assert (one["records"][0]["lr"], two["records"][0]["lr"]) == ("given", "made")
    assert (two["images"], two["failed"], two["average"]) == (0, 1, None)
    assert two["records"][0] == {"image": "a", "lr": "made", "error": "gone", "hint": "look"}


def test_json_says_that_a_border_was_asked_for() -> None:
    said = quality.to_json([], {"border": 7})["conventions"]
    assert "border 7 pixels, as asked for" in said["psnr_y, ssim_y"]
    assert "border 7 pixels, as asked for" in said["psnr_rgb, ssim_rgb"]
    # Bicubic has no artefact.
    (model,) = quality.to_json([Results(bicubic(3), Borders.of(3), [])], {})["models"]
    assert (model["model"], model["artefact"], model["weights_sha256"], model["sets"]) == ("bicubic", None, None, [])


def test_csv_has_a_line_a_picture_and_a_set() -> None:
    rows = list(csv.DictReader(io.StringIO(quality.to_csv([RESULTS]))))
    assert [(row["kind"], row["set"], row["image"]) for row in rows] == [
        ("image", "one", "a"),
        ("image", "one", "b"),
        ("average", "one", ""),
        ("image", "two", "a"),
        ("average", "two", ""),
    ]
    assert (rows[1]["psnr_rgb"], rows[2]["psnr_rgb"], rows[2]["psnr_y"]) == ("inf", "inf", "32.0")
    assert (rows[2]["images"], rows[2]["failed"], rows[4]["images"], rows[4]["failed"]) == ("2", "0", "0", "1")
    assert (rows[3]["error"], rows[3]["psnr_y"], rows[4]["psnr_y"]) == ("gone", "", "")
    common = {"model": "mine", "scale": "4", "border_y": "4", "border_rgb": "4"}
    assert all(common.items() <= row.items() for row in rows)
