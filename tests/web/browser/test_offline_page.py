"""The page without a server, with a newer version, with one thread, and its requests."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from chromium import chromium, requests_of, serving, until
from driven_page import DrivenPage, file_of
from PIL import Image

from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.runtime.bundled import FOLDER
from lkdn_deploy.samples import sample_pixels
from lkdn_deploy.web.folder import write_folder

pytestmark = pytest.mark.long


def installed(page: DrivenPage) -> None:
    """Wait until the service worker is active."""
    page.driver.execute_async_script("navigator.serviceWorker.ready.then(arguments[0])")


def test_it_works_after_the_server_is_gone_and_asks_nobody_else(site: Path, tmp_path: Path) -> None:
    photograph = file_of(Image.fromarray(sample_pixels()[:60, :80]))
    netlog = tmp_path / "net.json"
    with serving(site) as (url, end), chromium(tmp_path, f"--log-net-log={netlog}") as driver:
        page = DrivenPage(driver, url, tmp_path / "downloads")
        page.open()
        installed(page)
        page.drop(("a.png", photograph))
        page.finished()
        with_server = page.pixels()
        end()
        page.open()
        page.drop(("a.png", photograph))
        assert [it["state"] for it in page.finished()] == ["done"]
        assert np.array_equal(page.pixels(), with_server)
        for scale in ("2", "3"):  # whose networks were not loaded before
            page.choose("scale", scale)
            page.button("again").click()
            assert [it["state"] for it in page.finished()] == ["done"]
        assert page.complaints() == []
    asked = {address for initiator, address in requests_of(netlog) if initiator == url.rstrip("/")}
    assert any(address.endswith(".wasm") for address in asked)
    assert {address for address in asked if not address.startswith((url, f"blob:{url}"))} == set()


def test_a_newer_version_takes_over(tmp_path: Path) -> None:
    networks = [read_artifact(FOLDER / f"lkdn-s_x{scale}.onnx") for scale in (2, 4)]
    folder = write_folder(networks[:1], tmp_path / "folder")
    with serving(folder) as (url, _), chromium(tmp_path) as driver:
        page = DrivenPage(driver, url, tmp_path / "downloads")
        page.open()
        installed(page)
        page.open()  # from the worker's store
        assert page.text("scales") == "×2"
        write_folder(networks, folder)
        page.open(ready=False)
        until(lambda: page.text("scales") == "×2×4", "the newer version")  # reloaded by itself, as nothing was open
        page.drop(("a.png", file_of(Image.fromarray(sample_pixels()[:40, :40]))))
        page.finished()
        write_folder(networks[1:], folder)
        page.run("document.dispatchEvent(new Event('visibilitychange'))")
        until(lambda: page.element("update").is_displayed(), "the offer")
        assert len(page.entries()) == 1
        page.element("reload").click()
        until(lambda: page.text("scales") == "×4", "the newest version")


def test_a_host_without_headers_gives_one_thread_first_and_more_from_the_second_visit(
    site: Path, tmp_path: Path
) -> None:
    with serving(site, "--no-isolation") as (url, _), chromium(tmp_path) as driver:
        page = DrivenPage(driver, url, tmp_path / "downloads")
        page.open()
        assert "one thread" in page.text("engine-facts")
        page.drop(("a.png", file_of(Image.fromarray(sample_pixels()[:40, :40]))))
        assert [it["state"] for it in page.finished()] == ["done"]
        installed(page)
        page.open()
        assert page.run("return crossOriginIsolated")
        assert page.complaints() == []


@pytest.mark.parametrize("pattern", ["*/lkdn*", "*.wasm"])
def test_the_first_paint_does_not_wait_for_the_network(site: Path, tmp_path: Path, pattern: str) -> None:
    with serving(site) as (url, _), chromium(tmp_path) as driver:
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": [pattern]})
        driver.get(url)
        page = DrivenPage(driver, url, tmp_path / "downloads")
        assert page.element("choose").is_displayed()
        paint = "return performance.getEntriesByName('first-contentful-paint').length"
        until(lambda: page.run(paint), "the first paint")
        until(lambda: page.element("banner").is_displayed(), "the reason")
        assert "lkdn" in page.text("banner") or "loaded" in page.text("banner")


def test_a_browser_without_vectors_says_so(site: Path, tmp_path: Path) -> None:
    with serving(site) as (url, _), chromium(tmp_path) as driver:
        without = {"source": "WebAssembly.validate = () => false"}
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", without)
        driver.get(url)
        page = DrivenPage(driver, url, tmp_path / "downloads")
        until(lambda: "WebAssembly SIMD" in page.text("banner"), "the message")
        assert not page.element("choose").is_enabled()


def test_a_browser_that_cannot_read_the_modules_says_so(site: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(site, tmp_path / "folder")
    (module,) = folder.glob("page.*.mjs")
    module.write_text("a newer syntax")
    with serving(folder) as (url, _), chromium(tmp_path) as driver:
        driver.get(url)
        page = DrivenPage(driver, url, tmp_path / "downloads")
        until(lambda: "too old" in page.text("banner"), "the message")
        assert page.element("banner").is_displayed()


def test_it_works_below_a_path_of_a_host(site: Path, tmp_path: Path) -> None:
    inner = tmp_path / "host" / "some" / "where"
    shutil.copytree(site, inner)
    shutil.copy(site / "lkdn.mjs", tmp_path / "host")  # by which the server knows such a folder
    with serving(tmp_path / "host") as (url, _), chromium(tmp_path) as driver:
        page = DrivenPage(driver, f"{url}some/where/", tmp_path / "downloads")
        page.open()
        page.drop(("a.png", file_of(Image.fromarray(sample_pixels()[:40, :40]))))
        assert [it["state"] for it in page.finished()] == ["done"]
        assert page.complaints() == []
