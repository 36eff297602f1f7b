"""``lkdn-eval`` by its command line, on test sets made here and on the published ones."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from lkdn_deploy import load
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.eval import command
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.imaging.metrics import psnr_rgb, psnr_y
from lkdn_deploy.imaging.resample import downsample
from lkdn_deploy.imaging.testsets import read_pair
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.samples import sample_pixels
from lkdn_models.training.evaluate import bicubic, mean, measure, open_set
from lkdn_models.zoo import find as find_entry

BUNDLED = find_entry("lkdn-s", 4).bundled or Path()
HIGH = sample_pixels()[60:108, 90:150]
NAMES = ("a", "b", "c", "d")
BICUBIC = ("--model", "bicubic")
Ran = Callable[..., Any]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A plain folder of four."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for index, name in enumerate(NAMES):
        Image.fromarray(np.roll(HIGH, 7 * index, axis=1)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Ran:
    """Runs the command, and gives what it printed."""

    def call(*args: str | Path, code: int = 0) -> Any:
        assert run(command, [*map(str, args)]) == code
        return capsys.readouterr()

    return call


@pytest.fixture
def results(tmp_path: Path, ran: Ran) -> Ran:
    """Runs the command, and gives what it wrote as JSON, with what it printed as ``said``."""

    def measured(*args: str | Path, code: int = 0) -> Any:
        path = tmp_path / "results.json"
        said = ran(*args, "--json", path, "--overwrite", code=code)
        return json.loads(path.read_text()) | {"said": said}

    return measured


def averages(report: Any) -> dict[tuple[str, int, str], Any]:
    pairs = [(model, one) for model in report["models"] for one in model["sets"]]
    return {(model["model"], model["scale"], one["set"]): one["average"] for model, one in pairs}


def test_the_bundled_model_is_measured_by_default(pictures: Path, results: Ran) -> None:
    report = results("--data", pictures)
    expected = mean(measure(load(), open_set(pictures, 4)))
    assert averages(report).keys() == {("lkdn-s", 4, "mine")}
    found = averages(report)["lkdn-s", 4, "mine"]
    assert (found["psnr_y"], found["ssim_y"]) == (expected.psnr_y, expected.ssim_y)
    (model,) = report["models"]
    assert (model["backend"], model["precision"]) == (load().session.backend, "fp32")
    records = model["sets"][0]["records"]
    assert [record["image"] for record in records] == list(NAMES)
    assert records[0]["psnr_rgb"] == psnr_rgb(load()(downsample(HIGH, 4)), HIGH, 4)
    assert all((record["lr"], record["tiles"], record["exact"]) == ("made", 1, True) for record in records)


def test_the_table_fits_a_terminal(pictures: Path, ran: Ran) -> None:
    long = pictures.rename(pictures.with_name("a set of pictures with a name that is rather long"))
    lines = ran("--model", "lkdn-s", *BICUBIC, "--scale", "2", "--scale", "3", "--data", long).out.splitlines()
    assert lines[0] == "PSNR in dB; border as wide as the scale on Y (papers), 4 on RGB (NTIRE)"
    assert lines[1].split() == ["model", "set", "images", "PSNR-Y", "SSIM-Y", "PSNR-RGB", "SSIM-RGB"]
    rows = [" ".join(line.split()[:2]) for line in lines[2:]]
    assert rows == ["lkdn-s x2", "lkdn-s x3", "bicubic x2", "bicubic x3"]
    assert max(map(len, lines)) <= 80
    figures = mean(measure(bicubic(3), open_set(long, 3)))
    assert lines[-1].split()[-5:-2] == ["4", f"{figures.psnr_y:.3f}", f"{figures.ssim_y:.4f}"]


def test_one_border_replaces_both(pictures: Path, results: Ran) -> None:
    report = results("--data", pictures, *BICUBIC, "--border", "9")
    assert report["said"].out.startswith("PSNR in dB; border 9 on Y and RGB\n")
    record = report["models"][0]["sets"][0]["records"][0]
    image = bicubic(4)(downsample(HIGH, 4))
    assert (record["psnr_y"], record["psnr_rgb"]) == (psnr_y(image, HIGH, 9), psnr_rgb(image, HIGH, 9))


@pytest.fixture
def with_lr(tmp_path: Path) -> Path:
    """A set whose low-resolution pictures are not those that would be made."""
    for name, turn in (("a", 0), ("b", 2)):
        for part in ("HR", "LR"):
            (tmp_path / "Set1" / "x4" / part).mkdir(parents=True, exist_ok=True)
        high = np.rot90(HIGH, turn)
        Image.fromarray(high).save(tmp_path / "Set1" / "x4" / "HR" / f"{name}.png")
        Image.fromarray(high[::4, ::4]).save(tmp_path / "Set1" / "x4" / "LR" / f"{name}.png")
    return tmp_path / "Set1"


def test_low_resolution_pictures_are_those_of_the_set_unless_told(with_lr: Path, results: Ran) -> None:
    given = results("--data", with_lr, *BICUBIC)
    assert f"note: Set1 x4: 2 pictures, low-resolution ones those in {with_lr}/x4/LR" in given["said"].err
    made = results("--data", with_lr, *BICUBIC, "--make-lr")
    assert "made from the originals by MATLAB's bicubic" in made["said"].err
    records = [report["models"][0]["sets"][0]["records"][0] for report in (given, made)]
    assert [record["lr"] for record in records] == ["given", "made"]
    lows = HIGH[::4, ::4], downsample(HIGH, 4)
    assert [record["psnr_y"] for record in records] == [psnr_y(bicubic(4)(low), HIGH, 4) for low in lows]


def test_what_cannot_be_measured_is_listed_and_the_rest_is_averaged(with_lr: Path, results: Ran) -> None:
    for name, low in (("none", None), ("size", HIGH[:12, :14])):
        Image.fromarray(HIGH).save(with_lr / "x4" / "HR" / f"{name}.png")
        if low is not None:
            Image.fromarray(low).save(with_lr / "x4" / "LR" / f"{name}.png")
    (with_lr / "x4" / "HR" / "broken.png").write_bytes(b"no picture")
    report = results("--data", with_lr, *BICUBIC, "--model", "lkdn-s", code=1)
    said = report["said"]
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3  # each once, not once a model
    assert errors[0].startswith("error: Set1/broken: ")
    assert "broken.png is not an image that can be read" in errors[0]
    assert "none.png is missing" in errors[1]
    assert "size.png is 14x12: expected 15x12" in errors[2]
    assert "note: averages of Set1 are over the other pictures" in said.err
    assert said.out.splitlines()[-1].split()[:4] == ["lkdn-s", "x4", "Set1", "2/5"]
    (one,) = report["models"][0]["sets"]
    assert (one["images"], one["failed"]) == (2, 3)
    good = [record["psnr_y"] for record in one["records"] if "error" not in record]
    assert one["average"]["psnr_y"] == pytest.approx(np.mean(good), abs=1e-12)
    assert report["interrupted"] is False


def test_a_set_of_which_nothing_can_be_measured_has_no_figures(tmp_path: Path, results: Ran) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"no picture")
    report = results("--data", tmp_path / "bad", *BICUBIC, code=1)
    assert report["said"].out.splitlines()[-1].split() == ["bicubic", "x4", "bad", "0/1", "-", "-", "-", "-"]
    assert report["models"][0]["sets"][0]["average"] is None


def test_an_interrupt_keeps_what_was_measured(
    pictures: Path, tmp_path: Path, results: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Any] = []

    def interrupted(*args: Any) -> Any:
        read.append(args)
        if len(read) == 3:
            raise KeyboardInterrupt
        return read_pair(*args)

    monkeypatch.setattr("lkdn_deploy.bench.quality.evaluation.read_pair", interrupted)
    files = ["--crop", "a:0,0,16,16", "--output", tmp_path / "out", "--csv", tmp_path / "r.csv"]
    report = results("--data", pictures, *BICUBIC, "--model", "lkdn-s", *files, code=130)
    said = report["said"]
    *_, note, last = said.err.splitlines()
    assert note.startswith("note: stopped before the end")
    assert last == "interrupted"
    assert said.out.splitlines()[-1].split()[:4] == ["bicubic", "x4", "mine", "2"]
    assert report["interrupted"] is True
    first, second = report["models"]
    assert ([record["image"] for record in first["sets"][0]["records"]], second["sets"]) == (["a", "b"], [])
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["a", "b", ""]
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_csv_is_written(pictures: Path, tmp_path: Path, ran: Ran) -> None:
    ran("--data", pictures, *BICUBIC, "--scale", "3", "--csv", tmp_path / "r.csv")
    *images, average = csv.DictReader((tmp_path / "r.csv").read_text().splitlines())
    expected = measure(bicubic(3), open_set(pictures, 3))
    assert [float(row["psnr_y"]) for row in images] == [value.psnr_y for value in expected]
    assert (average["kind"], float(average["psnr_y"]), average["images"]) == ("average", mean(expected).psnr_y, "4")
    assert (average["model"], average["scale"], average["backend"]) == ("bicubic", "3", "numpy")


def test_weights_and_artefacts_tell_their_scale_and_are_called_by_their_file(
    pictures: Path, results: Ran, random_checkpoint: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkpoint = random_checkpoint(LkdnSpec(3, 1, 4, 4)).read_bytes()
    weights = [tmp_path / name / "mine_x3.safetensors" for name in ("first", "second")]
    for path in weights:
        path.parent.mkdir()
        path.write_bytes(checkpoint)
    both = (f"--weights={path}" for path in weights)
    report = results("--data", pictures, "--model", bundled()["lkdn-s", 2], *both)
    assert averages(report).keys() == {("lkdn-s", 2, "mine"), ("mine", 3, "mine"), ("mine-2", 3, "mine")}
    assert "converting" in report["said"].err
    found = averages(report)["lkdn-s", 2, "mine"]["psnr_y"]
    assert found == mean(measure(load("lkdn-s", 2), open_set(pictures, 2))).psnr_y


@pytest.mark.long
def test_weights_are_those_of_the_model(pictures: Path, results: Ran) -> None:
    report = results("--data", pictures, "--model", "LKDN-S", "--weights", BUNDLED)
    ((key, found),) = averages(report).items()
    assert key == (BUNDLED.stem.removesuffix("_x4"), 4, "mine")
    assert report["models"][0]["artefact"]["model"] == "lkdn-s"
    assert found["psnr_y"] == pytest.approx(mean(measure(load(), open_set(pictures, 4))).psnr_y, abs=1e-3)


def test_the_ensemble_and_tiles_and_threads_reach_the_network(pictures: Path, results: Ran) -> None:
    options = ("--data", pictures, "--tile", "40", "--threads", "1", "--backend", "ort-cpu")
    plain, gained = results(*options), results(*options, "--self-ensemble")
    upscalers = [load(backend="ort-cpu", tile=40, threads=1, self_ensemble=each) for each in (False, True)]
    expected = [mean(measure(each, open_set(pictures, 4))).psnr_y for each in upscalers]
    assert [averages(report)["lkdn-s", 4, "mine"]["psnr_y"] for report in (plain, gained)] == expected
    assert expected[0] != expected[1]
    assert {"tile": 40, "threads": 1, "ensemble": True, "backend": "ort-cpu"}.items() <= gained["settings"].items()


def test_pytorch_gives_what_the_artefact_gives(pictures: Path, results: Ran) -> None:
    reports = [results("--data", pictures, "--backend", backend) for backend in ("ort-cpu", "torch")]
    first, second = (averages(report)["lkdn-s", 4, "mine"] for report in reports)
    assert first["psnr_y"] == pytest.approx(second["psnr_y"], abs=1e-3)
    assert "torch" in reports[1]["models"][0]["backend"]


def test_pictures_are_saved_and_details_drawn(pictures: Path, tmp_path: Path, ran: Ran) -> None:
    out = tmp_path / "out"
    args = ["--data", pictures, "--model", "lkdn-s", *BICUBIC, "-o", out]
    args += ["--crop", "a:10,12,24,20", "--crop", "mine/b:0,0,8,8"]
    assert f"drawn: {out}/a_10_12_24_20.png" in ran(*args).err
    drawn = ["a_10_12_24_20.png", "b_0_0_8_8.png"]
    every = product(("lkdn-s", "bicubic"), NAMES, ("", "_diff"))
    saved = [f"{model}_x4/mine/{name}{kind}.png" for model, name, kind in every]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*")) == sorted(drawn + saved)
    with Image.open(out / "lkdn-s_x4" / "mine" / "a.png") as image:
        assert np.array_equal(np.asarray(image), load()(downsample(HIGH, 4)))
    assert "exists" in ran(*args, code=2).err
    ran(*args, "--overwrite")


def test_without_a_folder_details_are_drawn_here(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: Ran
) -> None:
    monkeypatch.chdir(tmp_path)
    ran("--data", pictures, *BICUBIC, "--crop", "c:1,2,30,20")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c_1_2_30_20.png", "mine"]


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, "Missing option '--data'"),
        (["--data", "gone"], 1, "gone cannot be read: No such file"),
        (["--data", "empty"], 1, "empty holds no test set for x4"),
        (["--data", "mine", "--model", "nonesuch"], 2, "no network is called nonesuch"),
        (["--data", "mine", "--model", "lkdn"], 3, "lkdn"),
        (["--data", "mine", "--model", "gone.onnx"], 1, "gone.onnx cannot be read"),
        (["--data", "mine", "--weights", "gone.pth"], 1, "gone.pth"),
        (["--data", "mine", "--weights", "gone.pth", "--scale", "2"], 1, "gone.pth"),
        (["--data", "mine", "--model", "lkdn", "--weights", str(BUNDLED)], 2, "lkdn x4 was asked for"),
        (["--data", "mine", "--backend", "ort-cuda"], 3, "CUDAExecutionProvider"),
        (["--data", "mine", "--backend", "tpu"], 2, "--backend"),
        (["--data", "mine", "--precision", "fp16", "--model", str(bundled()["lkdn-s", 4])], 2, "fp16 was asked for"),
        (["--data", "mine", "--scale", "9"], 2, "--scale"),
        (["--data", "mine", "--tile", "0"], 2, "--tile"),
        (["--data", "mine", "--data", "other/mine"], 2, "2 test sets are called mine"),
        (["--data", "mine", "--crop", "a"], 2, "expected a crop as IMG:X,Y,W,H"),
        (["--data", "mine", "--crop", "z:0,0,9,9"], 2, "--crop names z, but no picture is called so"),
        (["--data", "mine", "--crop", "a:50,0,11,9"], 2, "reaches to 61, 9, but the picture ends at 60, 48"),
        (["--data", "mine", "--output", "mine/a.png"], 2, "a.png is a file"),
        (["--data", "mine", "--json", "mine/a.png"], 2, "a.png exists"),
        (["--data", "mine", "--csv", "mine"], 2, "mine is a folder"),
        (["--data", "mine", "--csv", "no/where.csv"], 2, "there is no folder no"),
        (["--data", "mine", "--csv", "r", "--json", "r"], 2, "r was given for both --json and --csv"),
        (["--data", "mine", "--json", "/proc/r.json"], 1, "/proc/r.json cannot be written"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_measured(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: Ran, args: list[str], code: int, said: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "mine").mkdir(parents=True)
    Image.fromarray(HIGH).save(tmp_path / "other" / "mine" / "z.png")
    streams = ran(*args, code=code)
    assert said in streams.err
    assert streams.out == ""


def test_one_folder_given_twice_counts_once(pictures: Path, results: Ran) -> None:
    report = results("--data", pictures, "--data", pictures.parent / "mine", *BICUBIC, *BICUBIC)
    assert [len(model["sets"]) for model in report["models"]] == [1]


def test_no_set_names_the_known_layouts(tmp_path: Path, ran: Ran) -> None:
    assert "hint: known layouts: SET/x4/HR and SET/x4/LR; SET/GTmod12" in ran("--data", tmp_path, code=1).err


def test_equal_pictures_are_infinite_in_valid_json(tmp_path: Path, results: Ran) -> None:
    (tmp_path / "flat").mkdir()
    Image.new("RGB", (48, 48), (9, 99, 199)).save(tmp_path / "flat" / "a.png")
    report = results("--data", tmp_path / "flat", *BICUBIC)
    assert averages(report)["bicubic", 4, "flat"] == {"psnr_y": "inf", "ssim_y": 1, "psnr_rgb": "inf", "ssim_rgb": 1}
    assert "inf" in report["conventions"]["pictures"]


def test_of_networks_of_luma_it_is_said_that_papers_measure_otherwise(pictures: Path, tmp_path: Path, ran: Ran) -> None:
    artefact = onnx.load(bundled()["lkdn-s", 2])
    for item in artefact.metadata_props:
        if item.key == "lkdn.model":
            item.value = json.dumps("idn")
    onnx.save(artefact, tmp_path / "small.onnx")
    assert "luma only" not in ran("--data", pictures, *BICUBIC).err
    said = ran("--data", pictures, "--model", tmp_path / "small.onnx").err
    assert "note: small processes luma only; its papers measure on rounded luma" in said


def test_an_artefact_is_measured_without_torch(pictures: Path) -> None:
    code = "import sys; sys.modules['torch'] = None\nfrom lkdn_deploy.cli.eval import main; main()"
    args = ["--data", str(pictures), "--model", "lkdn-s", "--model", "bicubic", "--backend", "ort-cpu"]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4


def test_the_published_sets_give_the_papers_figures_of_bicubic(data: Path, results: Ran) -> None:
    report = results("--data", data / "testsets", *BICUBIC, "--make-lr")
    found = {name: round(figures["psnr_y"], 2) for (_, _, name), figures in averages(report).items()}
    assert found == {"Set5": 28.43, "Set14": 26.09}


def test_the_bundled_model_on_set5_is_what_is_measured_elsewhere(data: Path, results: Ran) -> None:
    report = results("--data", data / "testsets" / "Set5", "--make-lr")
    expected = mean(measure(load(), open_set(data / "testsets" / "Set5", 4)))
    found = averages(report)["lkdn-s", 4, "Set5"]
    assert (found["psnr_y"], found["ssim_y"]) == (expected.psnr_y, expected.ssim_y)
    assert found["psnr_y"] > 31
