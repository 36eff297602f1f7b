"""Draw the page of ``lkdn-export --web`` for the README: on a desktop in light colours, on a phone in dark ones.

    python tools/page_screenshot.py

It needs Chromium; see tools/chromium.py. The picture is benchmarks/results/page.webp.
"""

import io
import tempfile
from pathlib import Path
from typing import Any

from chromium import chromium, serving, show_as, until
from PIL import Image

from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.runtime.bundled import FOLDER
from lkdn_deploy.samples import sample_pixels
from lkdn_deploy.web.folder import write_folder

TARGET = Path(__file__).parents[1] / "benchmarks" / "results" / "page.webp"
DESKTOP, PHONE, GAP = (1120, 800), (370, 800), 24


def main() -> None:
    """Write the picture."""
    with tempfile.TemporaryDirectory() as name:
        site = write_folder(
            [read_artifact(FOLDER / f"lkdn-s_x{scale}.onnx") for scale in (4, 2, 3)], Path(name) / "site"
        )
        with serving(site) as (url, _), chromium(Path(name) / "profile", "--hide-scrollbars") as driver:
            driver.get(url)
            Image.fromarray(sample_pixels()).save(Path(name) / "dandelion.png")
            driver.find_element("id", "files").send_keys(str(Path(name) / "dandelion.png"))
            until(lambda: driver.find_elements("css selector", '[data-state="done"]'), "the result")
            shots = [shot(driver, DESKTOP, dark=False), shot(driver, PHONE, dark=True)]
    whole = Image.new("RGB", (DESKTOP[0] + GAP + PHONE[0], DESKTOP[1]), "white")
    whole.paste(shots[0], (0, 0))
    whole.paste(shots[1], (DESKTOP[0] + GAP, 0))
    whole.save(TARGET, quality=82, method=6)
    print(TARGET, TARGET.stat().st_size, "bytes")


def shot(driver: Any, size: tuple[int, int], *, dark: bool) -> Image.Image:
    """Draw the page in a size."""
    driver.execute_script("window.scrollTo(0, 0); document.activeElement.blur()")
    show_as(driver, size, dark=dark)
    driver.execute_script("document.getElementById('zoom-in').click()")
    moved = "const done = arguments[0]; setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 300)"
    driver.execute_async_script(moved)
    return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")


if __name__ == "__main__":
    main()
