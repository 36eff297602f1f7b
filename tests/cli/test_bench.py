"""``lkdn-bench`` by its command line: real engines on small inputs. No figure of a time is asserted."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lkdn_deploy.backends.ort import OrtSession
from lkdn_deploy.bench.challenge import scores
from lkdn_deploy.bench.results import Protocol, Report, read_report, schema
from lkdn_deploy.bench.run import BenchRequest
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.bench import command
from lkdn_deploy.core.errors import LkdnError, MissingError
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.samples import sample_pixels

FILE = bundled()["lkdn-s", 4]
LKDN_S = ["--model", "lkdn-s"]
SMALL = ["--size", "32x24", "--rounds", "8", "--threads", "1"]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder of three, of two sizes."""
    folder = tmp_path_factory.mktemp("sets") / "mine"
    folder.mkdir()
    for index, (height, width) in enumerate(((64, 80), (64, 80), (96, 64))):
        part = sample_pixels()[7 * index : 7 * index + height, :width]
        Image.fromarray(part).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> tuple[Path, str]:
    """One run on three engines with all reports, and what it printed."""
    from contextlib import redirect_stdout
    from io import StringIO

    folder = tmp_path_factory.mktemp("reports") / "new"
    engines = ["--torch", "--ort", "--openvino"]
    with redirect_stdout(StringIO()) as out:
        args = [*engines, *LKDN_S, *SMALL, "--data", str(pictures), "-o", str(folder)]
        assert run(command, args) == 0
    return folder, out.getvalue()


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs the command, and gives what it printed."""

    def call(*args: str | Path, code: int = 0) -> Any:
        assert run(command, [*map(str, args)]) == code
        return capsys.readouterr()

    return call


def test_every_row_has_all_that_was_measured(measured: tuple[Path, str]) -> None:
    report = read_report(measured[0] / "bench.json")
    assert [row.backend for row in report.rows] == ["torch-cpu", "ort-cpu", "openvino-cpu"]
    for row in report.rows:
        assert (row.model, row.scale, row.precision, row.weights) == ("lkdn-s", 4, "fp32", "bundled")
        latency = row.latency
        assert latency
        assert len(latency.samples) == 8
        assert 0 < latency.p5 <= latency.median <= latency.p95
        assert latency.warm_up
        assert min(latency.first, latency.opening) > 0
        assert row.memory
        assert row.memory.peak_mib > 0
        assert row.bounds
        assert 0 < row.bounds.network <= row.bounds.pointwise <= row.bounds.layers
        assert min(row.kinds["conv 1x1"], row.kinds["depthwise conv"]) > 0
        assert not row.problem
    first, *others = report.rows
    assert first.latency
    assert first.latency.ratio is None
    assert all(row.latency and row.latency.ratio for row in others)
    assert not report.interrupted
    assert report.settings.threads == 1
    assert {"cpu", "cores", "load before", "threads", "versions", "gpus"} <= report.machine.keys()
    assert {"torch", "onnxruntime", "openvino"} <= report.machine["versions"].keys()


def test_quality_is_that_of_lkdn_eval_and_alike_on_every_engine(measured: tuple[Path, str], pictures: Path) -> None:
    from lkdn_deploy import load
    from lkdn_models.training.evaluate import mean, measure, open_set

    expected = mean(measure(load(), open_set(pictures, 4)))
    for row in read_report(measured[0] / "bench.json").rows:
        (quality,) = row.quality
        assert (quality.name, quality.images) == ("mine", 3)
        assert quality.psnr == pytest.approx(expected.psnr_y, abs=0.01)
        assert quality.ssim == pytest.approx(expected.ssim_y, abs=0.0005)


def test_counted_figures_are_those_of_the_zoo(measured: tuple[Path, str]) -> None:
    cost = read_report(measured[0] / "bench.json").rows[0].cost
    assert cost
    assert (cost.parameters, cost.input_size) == (129_177, (180, 320))
    assert cost.operations / 1e9 == pytest.approx(7.285, abs=0.001)


def test_the_table_fits_a_terminal_and_all_three_reports_are_written(measured: tuple[Path, str]) -> None:
    folder, printed = measured
    assert max(map(len, printed.splitlines())) <= 80
    assert all(name in printed for name in ("torch-cpu", "ort-cpu", "openvino-cpu"))
    assert sorted(path.name for path in folder.iterdir()) == ["bench.html", "bench.json", "bench.md"]
    page = (folder / "bench.html").read_text()
    assert "openvino-cpu" in page
    assert "<script" not in page
    assert "| lkdn-s" in (folder / "bench.md").read_text()


def test_the_json_is_as_its_published_schema_says(measured: tuple[Path, str]) -> None:
    from jsonschema import Draft202012Validator

    published = Path(__file__).parents[2] / "benchmarks" / "bench.schema.json"
    assert json.loads(published.read_text()) == schema()
    found = json.loads((measured[0] / "bench.json").read_text())
    Draft202012Validator.check_schema(schema())
    Draft202012Validator(schema()).validate(found)
    del found["machine"]
    assert not Draft202012Validator(schema()).is_valid(found)


def test_two_reports_are_compared(measured: tuple[Path, str], ran: Callable[..., Any]) -> None:
    path = measured[0] / "bench.json"
    said = ran("compare", path, path).out
    assert "no difference beyond noise" in said
    assert ": slower" not in said


@pytest.mark.long
def test_ntire2023_counts_as_the_challenge_times_each_image_once_and_rates_on_rgb(
    tmp_path: Path, pictures: Path, ran: Callable[..., Any]
) -> None:
    from lkdn_deploy import load
    from lkdn_deploy.imaging.metrics import psnr_rgb
    from lkdn_models.training.evaluate import open_set

    args = ("--protocol", "ntire2023", "--data", pictures, "-o", tmp_path, "--ort", "--model", "rfdn-aim", *LKDN_S)
    said = ran(*args).out
    report = read_report(tmp_path / "bench.json")
    assert report.settings.protocol is Protocol.NTIRE_2023
    rfdn, lkdn_s = report.rows
    cost = rfdn.cost
    # The challenge's report, table of the baseline: 0.433 M, 27.10 G, 112.03 M, 64.
    assert (round(cost.parameters / 1e6, 3), round(cost.operations / 1e9, 2)) == (0.433, 27.10)
    assert (round(cost.activations / 1e6, 2), cost.convolutions) == (112.03, 64)
    assert cost.input_size == (256, 256)
    assert len(rfdn.latency.samples) == 3
    assert rfdn.latency.warm_up is None
    assert min(rfdn.memory.peak_mib, lkdn_s.memory.peak_mib) > 0
    assert (rfdn.weights, rfdn.quality) == ("random", ())
    assert lkdn_s.quality[0].images == 3
    assert re.search(r"27\.10\b", said)
    assert re.search(r"112\.03\b", said)
    upscale = load(backend="ort-cpu")
    expected = [psnr_rgb(upscale(low), high, 4) for _, low, high in open_set(pictures, 4).pairs]
    assert lkdn_s.psnr == pytest.approx(np.mean(expected), abs=1e-6)


@pytest.mark.long
def test_a_challenge_with_scores_times_its_baseline_five_times(
    tmp_path: Path, pictures: Path, ran: Callable[..., Any]
) -> None:
    said = ran("--protocol", "ntire2026", "--data", pictures, "-o", tmp_path, "--torch", *LKDN_S).out
    report = read_report(tmp_path / "bench.json")
    lkdn_s, span = report.rows
    assert (span.model, span.weights) == ("span-ch28", "random")
    assert [len(row.latency.samples) for row in report.rows] == [15, 15]
    assert round(span.cost.operations / 1e9, 2) == 9.83
    mine, base = scores(report)
    assert (base.runtime, base.final) == pytest.approx((np.exp(2), np.exp(2)))
    ratio = lkdn_s.latency.mean / span.latency.mean
    assert mine.runtime == pytest.approx(np.exp(2 * ratio))
    assert mine.final == pytest.approx(0.8 * mine.runtime + 0.1 * mine.flops + 0.1 * mine.parameters)
    assert "26.90 and 26.99 dB" in " ".join(said.split())


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--protocol", "ntire2023", "--ort"], 2, "times the images of a test set"),
        (["--protocol", "ntire2023", "--size", "32x24"], 2, "takes the images at their own sizes"),
        (["--model", "lkdn-sss"], 2, "no network is called lkdn-sss"),
        (["--model", "lkdn", "--model", "bsrn", "--weights", "a"], 2, "1 --weights do not match the networks"),
        (["--model", "rfdn-aim", "--scale", "2"], 2, "rfdn-aim has no x2"),
        (["--size", "big"], 2, "expected WIDTHxHEIGHT"),
        (["--model", "nothing.onnx"], 1, "nothing.onnx cannot be read"),
        (["--weights", "nothing.pth"], 1, "nothing.pth: cannot be read"),
        (["--data", "nowhere", "--ort", "--model", "lkdn-s"], 1, "nowhere"),
        (["--predict", "gtx970"], 2, "no device is called gtx970"),
        (["--predict", "rtx3080", "--ort"], 2, "--predict measures nothing: --ort"),
        (["--predict", "rtx3080", "--rounds", "9"], 2, "--predict measures nothing: --rounds"),
        (["--predict", "rtx3080", "--size", "4x4", "--model", "bsrn"], 2, "bsrn x4 takes inputs of at least 15x15"),
        (["--size", "0x9"], 2, "expected WIDTHxHEIGHT"),
        (["--ort", "--model", "bsrn", "--size", "4x4"], 2, "bsrn x4 takes inputs of at least 15x15 pixels"),
        (["--torch", "--model", str(FILE)], 2, "PyTorch runs checkpoints"),
        (["--ort", "--model", str(FILE), "--precision", "fp16"], 2, f"fp16 was asked for, but {FILE} is fp32"),
        (["--ort", "compare", "a.json", "b.json"], 2, "compare takes two reports and no option: --ort"),
        (["--output", "/proc/nowhere"], 1, "cannot be"),
        (["--output", __file__], 1, "cannot be written to"),
        (["compare", "nowhere.json", "nowhere.json"], 1, "nowhere.json cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said_with_the_exit_code_of_its_kind(
    args: list[str], code: int, said: str, ran: Callable[..., Any]
) -> None:
    streams = ran(*args, code=code)
    assert said in streams.err
    assert streams.out == ""


@pytest.mark.long
def test_precisions_are_rows(tmp_path: Path, ran: Callable[..., Any]) -> None:
    ran("--ort", *LKDN_S, "--precision", "fp32", "--precision", "fp16", *SMALL, "-o", tmp_path)
    rows = read_report(tmp_path / "bench.json").rows
    assert [(row.backend, row.precision) for row in rows] == [("ort-cpu", "fp32"), ("ort-cpu", "fp16")]


def test_quality_of_a_network_without_weights_is_missing_them(pictures: Path, ran: Callable[..., Any]) -> None:
    said = ran("--ort", "--model", "fsrcnn", "--data", pictures, code=3).err
    assert "there are no weights of fsrcnn x4" in said
    assert "leave out --data" in said


def test_models_of_different_scales_are_not_compared(
    random_checkpoint: Callable[..., Path], ran: Callable[..., Any]
) -> None:
    files = [random_checkpoint(LkdnSpec(scale, 1, 8, 8)) for scale in (2, 4)]
    said = ran("--ort", *(f"--weights={path}" for path in files), *SMALL, code=2).err
    assert "expected models of one scale, got x2, x4" in said


def test_an_engine_that_is_missing_is_an_error_if_asked_for(
    monkeypatch: pytest.MonkeyPatch, ran: Callable[..., Any]
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert ".[openvino]" in ran("--openvino", *LKDN_S, *SMALL, code=3).err


@pytest.mark.long
def test_an_engine_that_is_missing_is_left_out_if_none_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, ran: Callable[..., Any]
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    said = ran(*LKDN_S, *SMALL).out
    assert "openvino" in said
    assert "cannot be imported" in " ".join(said.split())


@pytest.mark.parametrize("protocol", [["--protocol", "ntire2023"], SMALL])
def test_an_unreadable_image_is_listed_and_spoils_no_other(
    protocol: list[str], tmp_path: Path, pictures: Path, ran: Callable[..., Any]
) -> None:
    spoilt = Path(shutil.copytree(pictures, tmp_path / "spoilt"))
    (spoilt / "bad.png").write_bytes(b"no picture")
    said = ran("--ort", *LKDN_S, "--data", spoilt, "-o", tmp_path / "out", *protocol, code=1).out
    report = read_report(tmp_path / "out" / "bench.json")
    (failed,) = report.failed
    assert failed.what == "spoilt/bad"
    assert report.rows[0].quality[0].images == 3
    assert report.rows[0].latency
    assert "Failed: spoilt/bad" in said


@pytest.mark.long
def test_a_row_that_fails_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: Callable[..., Any]
) -> None:
    def fail(*args: Any) -> Any:
        msg = "no memory to measure memory"
        raise LkdnError(msg)

    monkeypatch.setattr("lkdn_deploy.bench.run.peak_memory", fail)
    said = ran("--ort", "--openvino", *LKDN_S, *SMALL, "-o", tmp_path, code=1).out
    rows = read_report(tmp_path / "bench.json").rows
    assert all(row.latency and row.problem == "memory: no memory to measure memory" for row in rows)
    assert "no memory to measure memory" in " ".join(said.split())


def test_reports_are_replaced_only_when_that_is_allowed(measured: tuple[Path, str], ran: Callable[..., Any]) -> None:
    before = (measured[0] / "bench.json").read_bytes()
    assert "--overwrite" in ran("--ort", *LKDN_S, *SMALL, "-o", measured[0], code=2).err
    assert (measured[0] / "bench.json").read_bytes() == before


@pytest.mark.long
def test_ctrl_c_keeps_the_whole_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: Callable[..., Any]
) -> None:
    inference_seconds = OrtSession.inference_seconds
    count = 0

    def interrupted_later(session: OrtSession, batch: Any) -> Any:
        nonlocal count
        count += 1
        if count > 800:  # runs that are not timed among them: the faster, the more
            raise KeyboardInterrupt
        return inference_seconds(session, batch)

    monkeypatch.setattr(OrtSession, "inference_seconds", interrupted_later)
    said = ran("--ort", *LKDN_S, "--size", "32x24", "--rounds", "500", "--threads", "1", "-o", tmp_path, code=130).out
    report = read_report(tmp_path / "bench.json")
    assert report.interrupted
    latency = report.rows[0].latency
    assert latency
    assert 5 < len(latency.samples) < 400
    assert "lkdn-s" in said


def test_the_bounds_of_a_gpu_that_is_not_here_are_shown_beside_the_papers_latency(ran: Callable[..., Any]) -> None:
    lines = ran("--predict", "rtx3080", "--precision", "fp32", "--precision", "fp16").out.splitlines()
    assert max(map(len, lines)) <= 80
    rows = {tuple(line.split()[:3]): line.split()[3:] for line in lines if re.search(r" x4 +fp", line)}
    assert {name for name, _, _ in rows} == {"lkdn", "lkdn-s", "bsrn", "vapsr", "rfdn-aim"}
    assert [rows[name, "x4", "fp32"][-1] for name in ("bsrn", "vapsr", "lkdn")] == ["83.75", "105.82", "85.65"]
    for figures in rows.values():
        layers, pointwise, network = map(float, figures[:3])
        assert 0 < network <= pointwise <= layers
    full, half = (float(rows["lkdn", "x4", precision][0]) for precision in ("fp32", "fp16"))
    assert half == pytest.approx(full / 2, rel=0.01)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            ["--trt", "--torch"],
            ["torch", "torch-channels-last", "torch-compile", "torch-tf32", "trt", "trt-aux0", "trt-no-tf32"],
        ),
        (["--trt", "--trt-way", "aux0"], ["trt-aux0"]),
        (["--torch", "--torch-way", "tf32", "--torch-way", "eager"], ["torch-tf32", "torch"]),
        (["--native", "--torch"], ["torch", "native"]),
    ],
)
def test_engines_are_timed_in_the_ways_that_are_asked_for(
    flags: list[str], expected: list[str], monkeypatch: pytest.MonkeyPatch, ran: Callable[..., Any]
) -> None:
    asked: list[str] = []

    def record(request: BenchRequest, _stage: object) -> Report:
        asked.extend(request.engines)
        msg = "seen"
        raise MissingError(msg)

    monkeypatch.setattr("lkdn_deploy.backends.trt.device.open_device", lambda: None)
    monkeypatch.setattr("lkdn_deploy.bench.run.bench", record)
    ran(*flags, *LKDN_S, *SMALL, code=3)
    assert asked == expected


@pytest.mark.parametrize(("option", "way"), [("--torch-way", "compile"), ("--trt-way", "aux0")])
def test_a_way_of_an_engine_that_is_not_timed_is_refused(option: str, way: str, ran: Callable[..., Any]) -> None:
    assert option in ran("--native", option, way, *LKDN_S, code=2).err


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler uses what PyTorch deprecates
def test_compiled_rows_are_really_compiled(tmp_path: Path, ran: Callable[..., Any]) -> None:
    ways = [word for way in ("eager", "compile", "channels-last", "tf32") for word in ("--torch-way", way)]
    ran("--torch", *ways, *LKDN_S, *SMALL, "-o", tmp_path)
    report = read_report(tmp_path / "bench.json")
    assert [row.backend for row in report.rows] == ["torch-cpu", "torch-cpu-compile", "torch-cpu-channels-last"]
    (left,) = report.left_out
    assert "TF32 is a way to compute FP32 on a GPU" in left.why
    latencies = [row.latency for row in report.rows]
    assert [bool(each and each.building) for each in latencies] == [False, True, False]
    assert all(each and len(each.samples) == 8 for each in latencies)


def test_tensorrt_without_a_gpu_is_missing(monkeypatch: pytest.MonkeyPatch, ran: Callable[..., Any]) -> None:
    monkeypatch.setattr("lkdn_deploy.backends.trt.device.gpu_here", lambda: None)
    said = ran("--trt", code=3).err
    assert "TensorRT cannot run here" in said
    assert "lkdn-bench --predict rtx3080" in said
    assert "lkdn-export --trt --runtime tensorrt-rtx" in said
