"""Start Chromium without a window, driven by selenium, and serve folders for it: for tests and benchmarks.

It needs selenium, and on Debian the packages chromium and chromium-driver.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # containers seldom allow it
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
)


def missing() -> str:
    """Return what is missing to run Chromium, or nothing."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "the package selenium is not installed"
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not found (Debian: apt-get install chromium chromium-driver)" if absent else ""


@contextmanager
def chromium(
    profile: Path, *flags: str, size: tuple[int, int] = (1280, 900), dark: bool = False, ratio: float = 1
) -> Iterator[Any]:
    """Give a selenium driver of a new Chromium, which ends with the block.

    Args:
        profile: a new folder for what it keeps, and for downloads (``profile / "downloads"``).
        flags: further flags of its command line.
        size: width and height of the page's area, in CSS pixels.
        dark: whether the system prefers dark colours.
        ratio: device pixels of a CSS pixel.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in (*_FLAGS, *flags, f"--user-data-dir={profile / 'data'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        (profile / "downloads").mkdir(parents=True, exist_ok=True)
        allowed = {"behavior": "allow", "downloadPath": str(profile / "downloads")}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
        driver.set_script_timeout(600)
        show_as(driver, size, dark=dark, ratio=ratio)
        yield driver
    finally:
        driver.quit()


def show_as(driver: Any, size: tuple[int, int], *, dark: bool, ratio: float = 1) -> None:
    """Set the page's area, its pixels and the colours that the system prefers."""
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def until(found: Callable[[], T | None], what: str, seconds: float = 60) -> T:
    """Call a function until it returns something true, and return that.

    Raises:
        TimeoutError: after ``seconds``, with ``what`` was awaited.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    msg = f"{what} did not come within {seconds:.0f} s"
    raise TimeoutError(msg)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Give the URL of a folder that is served by ``python -m lkdn_deploy.web``, and a function that ends the server."""
    words = [sys.executable, "-m", "lkdn_deploy.web", str(folder)]
    words += [*options] if "--port" in options else ["--port", "0", *options]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def end() -> None:
        server.terminate()
        server.wait()

    try:
        assert server.stdout is not None  # noqa: S101 - of Popen with a pipe
        yield server.stdout.readline().strip(), end
    finally:
        end()
        server.stdout.close()


def requests_of(netlog: Path) -> set[tuple[str, str]]:
    """Return the pairs of initiator and URL of all requests in a file that ``--log-net-log`` wrote."""
    log = json.loads(netlog.read_text())
    parameters = [event.get("params", {}) for event in log["events"]]
    return {(str(it["initiator"]), str(it["url"])) for it in parameters if "initiator" in it and "url" in it}
