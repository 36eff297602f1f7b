"""The page, as somebody uses it."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from chromium import show_as, until
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

HERE = Path(__file__).parent


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Encode an image."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


class DrivenPage:
    """A driver with the page at a URL."""

    def __init__(self, driver: Any, address: str, downloads: Path) -> None:
        self.driver, self.address, self.downloads = driver, address, downloads

    def open(self, *, ready: bool = True) -> None:
        """Open the page anew, and wait until the network is loaded."""
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(self.address)
        if ready:
            self.driver.execute_script("localStorage.clear()")
            until(lambda: " on " in self.text("engine-facts"), "the network")

    def element(self, identity: str) -> Any:
        """Return an element."""
        return self.driver.find_element("id", identity)

    def text(self, identity: str) -> str:
        """Return the text of an element, shown or not."""
        return str(self.run(f"return document.getElementById('{identity}').textContent"))

    def script(self, name: str, *arguments: Any) -> Any:
        """Run a script that stands beside this file."""
        return self.run((HERE / f"{name}.js").read_text(), *arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page."""
        return self.driver.execute_script(script, *arguments)

    def drop(self, *files: tuple[str, bytes]) -> None:
        """Drop files, given by name and content, on the page."""
        self.script("drop", [(name, base64.b64encode(content).decode()) for name, content in files])

    def paste(self, content: bytes) -> None:
        """Paste a PNG file."""
        self.script("paste", base64.b64encode(content).decode())

    def entries(self) -> list[dict[str, Any]]:
        """Return what the list shows."""
        return list(self.script("entries"))

    def finished(self, seconds: float = 120) -> list[dict[str, Any]]:
        """Wait until nothing is open any more, and return what the list shows."""

        def done() -> list[dict[str, Any]]:
            entries = self.entries()
            return [] if any(it["state"] in ("reading", "waiting", "working") for it in entries) else entries

        return until(done, "the end of the work", seconds)

    def choose(self, name: str, value: str) -> None:
        """Choose a scale or a format."""
        self.driver.find_element("css selector", f'input[name="{name}"][value="{value}"]').click()

    def button(self, kind: str, index: int = 0) -> Any:
        """Return a button of an entry: save, again, cancel or remove."""
        return self.driver.find_elements("css selector", f".entry .{kind}")[index]

    def saved(self, index: int = 0, seconds: float = 60) -> Path:
        """Save an entry's result, and return the file, which the next one replaces."""
        self.forget_downloads()
        self.button("save", index).click()
        return self.download(seconds)

    def forget_downloads(self) -> None:
        """Remove what was saved before."""
        for path in self.downloads.iterdir():
            path.unlink()

    def download(self, seconds: float = 60) -> Path:
        """Wait for a file that is saved."""

        def new() -> list[Path]:
            return [it for it in self.downloads.iterdir() if it.suffix in (".png", ".jpg", ".webp")]

        return until(new, "the file", seconds)[0]

    def pixels(self, index: int = 0) -> Pixels:
        """Save an entry's result, and return its pixels, (H, W, 3 or 4)."""
        return np.asarray(Image.open(self.saved(index)))

    def resized(self, width: int, height: int, *, dark: bool = False) -> None:
        """Set the size of the page and the colours that the system prefers."""
        show_as(self.driver, (width, height), dark=dark)

    def complaints(self) -> list[str]:
        """Return errors and warnings of the browser since the page was opened, such as violations of the policy."""
        return [it["message"] for it in self.driver.get_log("browser") if it["level"] != "INFO"]
