"""``lkdn-zoo``: what it prints and downloads, and that its figures are right."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lkdn_deploy.bench.complexity.verify_zoo import Checked, recount
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.zoo import command
from lkdn_models.download import local
from lkdn_models.zoo import Weights, ZooEntry, all_entries, entries, find, names


@pytest.fixture
def ran(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Runs the command, and gives what it printed."""

    def call(*args: str, code: int = 0) -> Any:
        assert run(command, args) == code
        return capsys.readouterr()

    return call


def words(text: str) -> str:
    """Without line breaks and indents."""
    return " ".join(text.split())


def test_the_list_has_a_row_for_every_network_and_scale_and_fits_80_columns(ran: Callable[..., Any]) -> None:
    lines = ran("list").out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [[entry.name, f"x{entry.scale}"] for entry in all_entries()]
    assert max(map(len, lines)) <= 80
    rows = [line.split(maxsplit=6) for line in lines]
    assert ["lkdn", "x4", "322.0K", "18.3G", "32.39", "28.80", "to download"] in rows
    assert ["lkdn-s", "x4", "129.2K", "7.3G", "32.10", "28.62", "bundled, to download"] in rows
    assert ["lkdn-s", "x2", "115.5K", "26.2G", "-", "-", "bundled"] in rows
    assert ["lapsrn", "x2", "407.4K", "119.6G", "37.46", "32.96", "none"] in rows


def test_the_list_tells_which_weights_are_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ran: Callable[..., Any]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("lkdn", "vdsr"):
        path = local(find(name, 4).weights)
        path.parent.mkdir(parents=True)
        path.touch()

    def where(name: str) -> str:
        (line,) = (line for line in ran("list").out.splitlines() if line.split()[:2] == [name, "x4"])
        return line.split(maxsplit=6)[6]

    found = [where(name) for name in ("lkdn", "vdsr", "bsrn", "lapsrn")]
    assert found == ["downloaded", "to convert", "to download", "none"]
    local(find("vdsr", 4).weights).with_suffix(".safetensors").touch()
    assert where("vdsr") == "downloaded"


def test_a_network_is_shown_with_all_that_is_known_of_it_in_80_columns(ran: Callable[..., Any]) -> None:
    for name in names():
        out = ran("show", name).out
        assert all(len(line) <= 80 for line in out.splitlines() if not line.strip().startswith(("weights:", "sha")))
        head, *parts = out.split("\n\n")
        found = list(entries(name))
        network = found[0].network
        assert all(fact in words(head) for fact in (name, network.paper, network.remark, network.input))
        assert network.rule.counts in words(head)
        assert len(parts) == len(found)
        for entry, part in zip(found, parts, strict=True):
            radius = "whole picture" if entry.receptive_radius is None else f"{entry.receptive_radius} LR pixels"
            facts = [f"x{entry.scale}: {entry.parameters:,} parameters", f"receptive radius: {radius} "]
            facts += [f"{psnr:.3f} / {ssim:.4f} measured" for psnr, ssim in entry.measured.values()]
            if printed := entry.printed:
                facts += [f"{printed.parameters} K, {printed.multi_adds} G"] if printed.parameters else []
                facts += [f"(table {printed.tables})", printed.remark, printed.div2k or "", *printed.trials]
                rows = (printed.quality, *printed.trials.values())
                facts += [f"{psnr} / {ssim} in the paper" for row in rows for psnr, ssim in row.values()]
            if weights := entry.weights:
                facts += [f"weights: {weights.page}", f"sha256 {weights.sha256}", f"licence: {weights.licence}"]
            shown = words(part)
            assert [fact for fact in facts if fact not in shown] == []
            assert ("bundled" in shown) == (entry.bundled is not None)
            assert shown.endswith("no weights") == (entry.weights is entry.bundled is None)


@pytest.mark.parametrize("task", ["show", "get"])
def test_an_unknown_network_is_refused_with_what_may_be_meant(task: str, ran: Callable[..., Any]) -> None:
    shown = ran(task, "edsr", code=2)
    assert shown.out == ""
    assert "no network is called edsr" in shown.err
    assert "hint: vdsr or pkdsr may be meant" in shown.err


@pytest.fixture
def downloaded(monkeypatch: pytest.MonkeyPatch) -> list[Weights]:
    """The downloads that were asked for; nothing is fetched."""
    asked = []

    def download(weights: Weights, *, progress: bool = False) -> Path:
        assert not progress
        asked.append(weights)
        return Path("cache", weights.file_name)

    monkeypatch.setattr("lkdn_models.download.download", download)
    return asked


@pytest.mark.parametrize(
    ("args", "scales", "files"),
    [
        (["lkdn"], [2, 3, 4], ["LKDN_x2.pth", "LKDN_x3.pth", "LKDN_x4.pth"]),
        (["lkdn", "--scale", "3"], [3], ["LKDN_x3.pth"]),
        (["LKDN-S"], [4], ["LKDN-S_x4.pth"]),
        (["rlfn"], [2, 4], ["rlfn_x2.pth", "rlfn_x4.pth"]),
        (["carn-m"], [2], ["carn_m.pth"]),
    ],
)
def test_weights_are_fetched_once_and_their_paths_printed_and_their_licence_told(
    args: Sequence[str], scales: Sequence[int], files: list[str], downloaded: list[Weights], ran: Callable[..., Any]
) -> None:
    shown = ran("get", *args)
    assert downloaded == [find(args[0], scale).weights for scale in scales]
    assert shown.out.splitlines() == [str(Path("cache", file)) for file in files]
    assert shown.err.splitlines() == [f"{weights.repository}: licence {weights.licence}" for weights in downloaded]


def test_of_weights_to_convert_the_command_is_told(downloaded: list[Weights], ran: Callable[..., Any]) -> None:
    shown = ran("get", "idn", "--scale", "3")
    path = Path("cache", "IDN_x3.caffemodel")
    assert shown.out == f"{path}\n"
    assert f"python tools/convert_idn.py {path} {path.with_suffix('.safetensors')}\n" in shown.err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["srcnn"], "no weights of srcnn were published"),
        (["rlfn", "--scale", "3"], "no weights of rlfn x3 were published"),
        (["bsrn-s", "--scale", "2"], "bsrn-s has no x2"),
        (["lkdn", "--scale", "8"], "8 is not in the range 2<=x<=4"),
    ],
)
def test_weights_that_are_nowhere_are_refused(
    args: Sequence[str], message: str, downloaded: list[Weights], ran: Callable[..., Any]
) -> None:
    shown = ran("get", *args, code=2)
    assert shown.out == ""
    assert message in shown.err
    assert downloaded == []


@pytest.mark.parametrize("entry", all_entries(), ids=lambda entry: f"{entry.name}-x{entry.scale}")
def test_every_figure_is_what_is_counted(entry: ZooEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    # The check does not ask for the memory, whose count takes half of the time.
    monkeypatch.setattr("lkdn_deploy.bench.complexity.count.peak_floats", lambda network, shape: 0)
    assert recount(entry).problems == ()


def test_the_check_has_a_row_for_every_network_and_scale_and_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, ran: Callable[..., Any]
) -> None:
    monkeypatch.setattr(
        "lkdn_deploy.bench.complexity.verify_zoo.recount",
        lambda entry: Checked(entry, entry.parameters, entry.multi_adds, entry.challenge_macs, ()),
    )
    shown = ran("check")
    lines = shown.out.splitlines()
    rows = [line.split()[:2] for line in lines[1:] if not line.startswith(" ")]
    assert rows == [[entry.name, f"x{entry.scale}"] for entry in all_entries()]
    assert max(map(len, lines)) <= 80
    assert f"{len(all_entries())} rows" in shown.err
    below = lines[[line.split()[:2] for line in lines].index(["span-ch28", "x4"]) + 1]
    assert below.split() == ["9.8338", "C", "256x256"]


FSRCNN, LAPSRN, SRCNN = find("fsrcnn", 4), find("lapsrn", 4), find("srcnn-915", 3)
SPAN = find("span-ch28", 4)


def printed(entry: ZooEntry, **figures: str) -> ZooEntry:
    """The entry with other figures of the paper."""
    return replace(entry, printed=replace(entry.printed, **figures))


def test_the_check_counts_anew_and_puts_the_papers_figures_beside_it(
    monkeypatch: pytest.MonkeyPatch, ran: Callable[..., Any]
) -> None:
    monkeypatch.setattr("lkdn_models.zoo.all_entries", lambda: (FSRCNN, LAPSRN, SRCNN))
    shown = ran("check")
    assert [words(line) for line in shown.out.splitlines()[1:]] == [
        "fsrcnn x4 13 12.809 4.6 4.6370 C-out 5",
        "lapsrn x4 813 814.242 149.4 149.3508 C-out 5",
        "813 K is without biases",
        "srcnn-915 x3 - 8.129 - 7.4023 C 1280x720 -",
    ]
    assert shown.err == "3 rows: all figures agree\n"


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (replace(FSRCNN, parameters=12_808), "fsrcnn x4 has 12,809 parameters, not 12,808"),
        (replace(FSRCNN, multi_adds=4.6371), "fsrcnn x4 has 4.6370 G Multi-Adds, not 4.6371"),
        (replace(FSRCNN, receptive_radius=8), "fsrcnn x4 has receptive radius 7, not 8"),
        (replace(SRCNN, receptive_radius=None), "srcnn-915 x3 has receptive radius 4, not None"),
        (replace(SPAN, challenge_macs=9.8), "span-ch28 x4 has 9.8338 G multiply-accumulates at 256x256, not 9.8000"),
        (printed(FSRCNN, parameters="12"), "fsrcnn x4: the paper prints 12 K parameters, counted: 12.809"),
        (printed(LAPSRN, remark=""), "lapsrn x4: the paper prints 813 K parameters, counted: 814.242"),
        (
            printed(FSRCNN, multi_adds="4.64", remark="as it should be"),
            "fsrcnn x4: a remark explains a difference that does not exist",
        ),
        (printed(FSRCNN, multi_adds="4.7"), "fsrcnn x4: the paper prints 4.7 G Multi-Adds, counted: 4.637"),
    ],
)
def test_a_figure_that_is_not_what_is_counted_is_named_and_the_exit_code_is_4(
    entry: ZooEntry, problem: str, monkeypatch: pytest.MonkeyPatch, ran: Callable[..., Any]
) -> None:
    table = entry, find("srcnn-915", 2)
    monkeypatch.setattr("lkdn_models.zoo.all_entries", lambda: table)
    shown = ran("check", code=4)
    assert f"differ from what is counted: {problem}" in shown.err
    assert "all figures agree" not in shown.err
    assert "srcnn-915" in shown.out
