"""The page in Chromium: results, files of all kinds, cancelling, the keyboard, its looks."""

import functools
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from chromium import until
from driven_page import HERE, DrivenPage, Pixels, file_of
from PIL import Image, ImageCms

from lkdn_deploy import load
from lkdn_deploy.samples import sample_pixels

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def upscaled() -> Callable[[Pixels, int], Pixels]:
    """The result in Python."""
    upscaler = functools.cache(lambda scale: load("lkdn-s", scale))
    return lambda pixels, scale: upscaler(scale)(pixels)


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """The bundled photograph, small."""
    return Image.fromarray(sample_pixels()[:90, :120])


def distance(one: Pixels, other: Pixels) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def test_a_photograph_dropped_on_the_page_gives_the_result_of_python(
    page: DrivenPage, upscaled: Callable[[Pixels, int], Pixels]
) -> None:
    pixels = sample_pixels()
    page.drop(("my photo.png", file_of(Image.fromarray(pixels))))
    (entry,) = page.finished()
    assert (entry["state"], entry["size"]) == ("done", "240 × 180 → 960 × 720")
    path = page.saved()
    assert path.name == "my photo_x4.png"
    assert distance(np.asarray(Image.open(path)), upscaled(pixels, 4)) <= 1
    assert "0.7 megapixels in" in page.text("compare-facts")
    assert "2 threads" in page.text("engine-facts") or "one thread" in page.text("engine-facts")


def test_each_scale_and_format(
    page: DrivenPage, photograph: Image.Image, upscaled: Callable[[Pixels, int], Pixels]
) -> None:
    page.choose("scale", "2")
    page.drop(("a.png", file_of(photograph)))
    page.finished()
    for name, kind, most in (("jpeg", "JPEG", 8.0), ("webp", "WEBP", 8.0), ("png", "PNG", 1.0)):
        page.choose("format", name)
        image = Image.open(page.saved())
        assert image.format == kind
        assert np.abs(np.asarray(image).astype(int) - upscaled(np.asarray(photograph), 2)).mean() <= most
    page.choose("scale", "3")
    assert page.button("again").text == "Again ×3"
    page.button("again").click()
    page.finished()
    assert distance(page.pixels(), upscaled(np.asarray(photograph), 3)) <= 1


def test_what_is_pasted_is_taken(page: DrivenPage, photograph: Image.Image) -> None:
    page.paste(file_of(photograph))
    assert [it["state"] for it in page.finished()] == ["done"]


def test_transparency_is_kept(
    page: DrivenPage, photograph: Image.Image, upscaled: Callable[[Pixels, int], Pixels]
) -> None:
    image = photograph.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    page.drop(("a.png", file_of(image)), ("b.webp", file_of(image, "WEBP", lossless=True, exact=True)))
    page.finished()
    expected = upscaled(np.asarray(image), 4)
    for index in range(2):
        found = page.pixels(index)
        assert distance(found[..., 3], expected[..., 3]) <= 1
        seen = expected[..., 3] > 16  # colours below are kept, too, but of few levels
        assert distance(found[seen], expected[seen]) <= 2
    page.choose("format", "jpeg")
    assert page.saved().suffix == ".png"
    assert "transparency" in page.text("live")


def test_pictures_are_turned_upright(
    page: DrivenPage, photograph: Image.Image, upscaled: Callable[[Pixels, int], Pixels]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    page.drop(("a.png", file_of(photograph, exif=exif)))
    (entry,) = page.finished()
    assert entry["size"] == "90 × 120 → 360 × 480"
    turned = np.ascontiguousarray(np.rot90(np.asarray(photograph), -1))
    assert distance(page.pixels(), upscaled(turned, 4)) <= 1


def chunk(name: bytes, content: bytes) -> bytes:
    body = name + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, bits: int, rows: bytes, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND", b"")


def test_16_bits_become_8_with_a_note(page: DrivenPage) -> None:
    row = b"\0" + struct.pack(">48H", *range(0, 48 * 1024, 1024))
    page.drop(("deep.png", png(16, 16, 16, row * 16)))
    (entry,) = page.finished()
    assert entry["state"] == "done"
    assert "The file has 16 bits per colour; the result has 8." in entry["notes"]
    assert page.pixels().shape == (64, 64, 3)


def test_display_p3_is_kept_and_other_profiles_are_converted(
    page: DrivenPage, photograph: Image.Image, upscaled: Callable[[Pixels, int], Pixels]
) -> None:
    pixels = np.asarray(photograph)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    p3 = png(pixels.shape[1], pixels.shape[0], 8, rows, chunk(b"cICP", bytes([12, 13, 0, 1])))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = lab.replace("sRGB".encode("utf-16-be"), "Mine".encode("utf-16-be"))
    page.drop(("p3.png", p3), ("other.png", file_of(photograph, icc_profile=other)))
    first, second = page.finished()
    assert first["notes"] == ["Colours in Display P3 are kept."]
    assert "is converted to Display P3." in second["notes"][0]
    path = page.saved(0)
    assert distance(np.asarray(Image.open(path)), upscaled(pixels, 4)) <= 1
    assert b"cICP\x0c\x0d\x00\x01" in path.read_bytes()
    with Image.open(path) as image:
        assert image.info["icc_profile"]


def test_damaged_huge_and_other_files_are_refused_and_the_rest_goes_on(
    page: DrivenPage, photograph: Image.Image
) -> None:
    good = file_of(photograph)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    page.drop(
        ("cut.png", file_of(noise)[:5000]),
        ("cut.jpg", file_of(noise, "JPEG")[:300]),
        ("empty.png", b""),
        ("text.png", b"no picture"),
        ("huge.png", png(60_000, 60_000, 8, b"")),
        ("good.png", good),
    )
    entries = page.finished()
    assert [it["state"] for it in entries] == ["failed"] * 5 + ["done"]
    texts = [it["text"] for it in entries]
    assert "PNG file is damaged" in texts[0]
    assert "JPEG file is damaged" in texts[1]
    assert texts[2] == "This file is empty."
    assert "no picture" in texts[3]
    assert "60000 × 60000" in texts[4]
    assert "at most 64 megapixels" in texts[4]


def test_what_the_format_cannot_hold_is_said_before_the_work(page: DrivenPage, photograph: Image.Image) -> None:
    page.choose("format", "webp")
    page.drop(("wide.png", file_of(photograph.resize((4200, 8)))))
    until(lambda: any(it["notes"] for it in page.entries()), "the note")
    assert page.finished()[0]["notes"] == ["16800 × 32 is too large for WebP in this browser: saved as PNG."]
    assert page.saved().name == "wide_x4.png"


def test_cancelling_stops_at_once_and_the_next_picture_works(page: DrivenPage, photograph: Image.Image) -> None:
    page.drop(("large.png", file_of(photograph.resize((1600, 1200)))), ("small.png", file_of(photograph)))
    until(lambda: page.entries()[0]["text"].endswith("left"), "the time left", 120)
    page.button("cancel").click()
    until(lambda: page.entries()[0]["state"] == "cancelled", "the end", 5)
    assert [it["state"] for it in page.finished()] == ["cancelled", "done"]
    page.button("remove").click()
    assert len(page.entries()) == 1
    page.element("clear").click()
    assert page.entries() == []
    assert not page.element("work").is_displayed()


def test_tiles_equal_the_whole(page: DrivenPage) -> None:
    script = (HERE / "tiles.js").read_text()
    (whole, cut), length, equal = page.driver.execute_async_script(script, "lkdn-s_x2", 300, 400)
    assert whole == 1
    assert cut >= 3  # rows of tiles, of two and more
    assert length == 4 * 4 * 300 * 400
    assert equal


def test_old_results_give_up_their_pixels_where_memory_is_short(page: DrivenPage) -> None:
    script = (HERE / "packed.js").read_text()
    first, second = page.driver.execute_async_script(script)
    assert first == ["image/png", 0, "To save memory, it is encoded already, and shown in a smaller size."]
    assert second == [None, 1, None]  # the latest one stays as it is


def test_the_pointer_moves_line_and_picture(page: DrivenPage, photograph: Image.Image) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    page.drop(("a.png", file_of(photograph.resize((800, 600)))))
    page.finished(300)
    until(lambda: page.element("handle").is_displayed(), "the line")
    stage = page.element("stage")
    ActionChains(page.driver).drag_and_drop_by_offset(stage, 150, 0).perform()
    divider = float(page.element("divider").get_attribute("value"))
    assert 60 < divider < 80
    page.element("zoom-full").click()
    until(lambda: page.text("zoom-level") == "100 %", "the zoom")
    seen = "const it = document.getElementById('view'); return it.toDataURL()"
    settled(page)
    before = page.run(seen)
    ActionChains(page.driver).drag_and_drop_by_offset(stage, -100, -50).perform()
    settled(page)
    assert page.run(seen) != before
    assert float(page.element("divider").get_attribute("value")) == divider
    stage.click()
    ActionChains(page.driver).scroll_from_origin(ScrollOrigin.from_element(stage), 0, -200).perform()
    until(lambda: page.text("zoom-level") not in ("100 %", ""), "the zoom by the wheel")


def settled(page: DrivenPage) -> None:
    """Wait until nothing more arrives for the view."""
    page.driver.execute_async_script("const done = arguments[0]; setTimeout(() => requestAnimationFrame(done), 500)")


def focused(page: DrivenPage) -> str:
    return str(page.run("const it = document.activeElement; return it.id || it.className || it.name"))


def press(page: DrivenPage, *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(page.driver).send_keys(*keys).perform()


def test_the_keyboard_alone_is_enough(page: DrivenPage, photograph: Image.Image) -> None:
    from selenium.webdriver.common.keys import Keys

    page.run(
        "document.getElementById('files').addEventListener('click', (event) => {"
        "  event.preventDefault(); window.asked = true; })"
    )
    reached = []
    for _ in range(2):
        press(page, Keys.TAB)
        reached.append(focused(page))
    assert reached == ["skip", "choose"]
    press(page, Keys.ENTER)
    assert page.run("return window.asked")
    page.drop(("a.png", file_of(photograph)))
    page.finished()
    reached = []
    for _ in range(40):
        press(page, Keys.TAB)
        reached.append(focused(page))
        outline = page.run(
            "const it = document.activeElement; const shown = it.type === 'radio' ? it.nextElementSibling : it;"
            "return getComputedStyle(shown).outlineStyle"
        )
        assert outline != "none", reached[-1]
        if reached[-1] == "save main":
            page.forget_downloads()
            press(page, Keys.ENTER)
            page.download()
        elif reached[-1] == "stage":
            fitted = page.text("zoom-level")
            press(page, "+", Keys.ARROW_LEFT)
            until(lambda fitted=fitted: page.text("zoom-level") != fitted, "the zoom")
            press(page, "0")
        elif reached[-1] == "divider":
            press(page, Keys.ARROW_LEFT)
            assert page.element("divider").get_attribute("value") == "49"
            break
    assert {"scale", "format", "pick", "save main", "remove", "clear", "stage", "divider"} <= set(reached)


def test_everything_has_a_name_for_screen_readers(page: DrivenPage, photograph: Image.Image) -> None:
    page.drop(("a.png", file_of(photograph)))
    page.finished()
    assert "a.png is finished" in page.text("live")
    nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {"button", "radio", "slider", "image", "img", "link", "region", "progressbar", "combobox"}
    roles = [(it["role"]["value"], it.get("name", {}).get("value", "")) for it in nodes if not it["ignored"]]
    assert [role for role, name in roles if role in named and not name] == []
    assert {"button", "radio", "slider", "heading"} <= {role for role, _ in roles}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 860), (360, 740)], ids=["desktop", "phone"])
def test_looks(page: DrivenPage, tmp_path: Path, size: tuple[int, int], dark: bool) -> None:
    page.resized(*size, dark=dark)
    screenshots = [page.driver.get_screenshot_as_png()]
    sample = Image.fromarray(sample_pixels())
    page.drop(
        ("dandelion in the evening, seen from very near.png", file_of(sample)),
        ("damaged.png", file_of(sample)[:500]),
        ("transparent.webp", file_of(sample.convert("RGBA").rotate(20), "WEBP")),
    )
    page.finished()
    page.run("document.querySelector('.pick').click()")
    page.run("document.querySelector('details').open = true")
    until(lambda: page.text("zoom-level") != "100 %" or size[0] > 600, "the picture")
    assert page.script("outside") == []
    assert page.script("contrast") == []
    page.run("window.scrollTo(0, 0)")
    screenshots.append(page.driver.get_screenshot_as_png())
    metrics = page.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    page.resized(size[0], int(metrics["height"]), dark=dark)
    screenshots.append(page.driver.get_screenshot_as_png())
    for index, content in enumerate(screenshots):
        (tmp_path / f"{index}.png").write_bytes(content)  # to be looked at
    background = np.asarray(Image.open(io.BytesIO(content)).convert("L"))[2, 2]
    assert (background < 40) == dark
