"""A photograph of 12 megapixels: memory, all of the result, what the list says. A minute or a few."""

import io
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from chromium import chromium, serving, until
from driven_page import DrivenPage, file_of
from PIL import Image

from lkdn_deploy import load
from lkdn_deploy.samples import sample_pixels

pytestmark = pytest.mark.long

WIDTH, HEIGHT, SCALE = 4000, 3000, 4
# Bytes of all processes of the browser. The result has 768 MB as RGBA; encoding it on a canvas takes two copies more,
# and is done on devices of 8 GB and more.
MOST = {"PNG": 2.5e9, "JPEG": 4e9}
HALO = 64


class PeakMemory(threading.Thread):
    """Watches the memory of a process and of all that it started, each page counted once."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.root, self.peak, self.ended = psutil.Process(process), 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            total = 0
            with suppress(psutil.NoSuchProcess):  # the end of the browser
                for process in (self.root, *self.root.children(recursive=True)):
                    with suppress(psutil.Error):  # it ended meanwhile
                        total += process.memory_full_info().pss
            self.peak = max(self.peak, total)


def test_a_photograph_of_12_megapixels(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    sample = Image.fromarray(sample_pixels()).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).normal(0, 4, (HEIGHT, WIDTH, 1))
    photograph = file_of(
        Image.fromarray(np.clip(np.asarray(sample) + noise, 0, 255).astype(np.uint8)), "JPEG", quality=95
    )
    with serving(site) as (url, _), chromium(tmp_path) as driver:
        page = DrivenPage(driver, url, tmp_path / "downloads")
        page.open()
        watch = PeakMemory(driver.service.process.pid)
        watch.start()
        page.drop(("photo.jpg", photograph))
        until(lambda: page.entries()[0]["text"].endswith("left"), "the time left", 120)
        (entry,) = page.finished(1200)
        assert (entry["state"], entry["size"]) == ("done", "4000 × 3000 → 16000 × 12000")
        page.element("zoom-full").click()
        for name, kind in (("png", "PNG"), ("jpeg", "JPEG")):
            page.choose("format", name)
            path = page.saved(seconds=600)
            with Image.open(path) as image:
                assert (image.format, image.size) == (kind, (WIDTH * SCALE, HEIGHT * SCALE))
            assert watch.peak < MOST[kind]
            if kind == "PNG":
                content = path.read_bytes()
        watch.ended.set()
        watch.join()
        assert page.complaints() == []
    large = np.asarray(Image.open(io.BytesIO(content)))
    small = np.asarray(Image.open(io.BytesIO(photograph)))
    upscaler = load("lkdn-s", SCALE)
    for top, left in ((0, 0), (HEIGHT - 200, WIDTH - 200), (1400, 1900)):  # corners, and a place amid tiles
        area = [slice(max(at - HALO, 0), at + 200 + HALO) for at in (top, left)]
        y, x = top - area[0].start, left - area[1].start
        part = upscaler(np.ascontiguousarray(small[area[0], area[1]]))
        expected = part[SCALE * y : SCALE * (y + 200), SCALE * x : SCALE * (x + 200)].astype(int)
        found = large[SCALE * top : SCALE * (top + 200), SCALE * left : SCALE * (left + 200)]
        assert np.abs(found - expected).max() <= 8  # by the decoders of JPEG; what is misplaced differs by more
        assert np.abs(found - expected).mean() < 0.6
