"""The exported folder, its server and the page in Chromium."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.runtime.bundled import FOLDER
from lkdn_deploy.web.folder import write_folder

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(Path(__file__).parent / "lib"), str(ROOT / "tools")]

from chromium import chromium, missing, serving  # noqa: E402
from driven_page import DrivenPage  # noqa: E402


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with LKDN-S x4, x2 and x3."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("site") / "folder"
    return write_folder([read_artifact(FOLDER / f"lkdn-s_x{scale}.onnx") for scale in (4, 2, 3)], folder)


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The URL of the folder on a server with the isolation headers."""
    with serving(site) as (url, _):
        yield url


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, address: str) -> Iterator[DrivenPage]:
    """One Chromium for the tests of a module."""
    profile = tmp_path_factory.mktemp("profile")
    with chromium(profile) as driver:
        yield DrivenPage(driver, address, profile / "downloads")


@pytest.fixture
def page(browser: DrivenPage) -> Iterator[DrivenPage]:
    """The page, opened anew; whatever the browser complains about fails the test."""
    browser.open()
    yield browser
    browser.resized(1280, 900)
    assert browser.complaints() == []
