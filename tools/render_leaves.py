"""Draw training images of overlapping shapes with sharp edges: the "dead leaves" of image statistics.

    python tools/render_leaves.py OUT --photographs DIR [--count N] [--seed S]

Photographs at hand are mostly soft, and a network that saw too few sharp, curved edges and thin lines blurs the rim of
a wing or the stripes of a feather. Here shapes lie on shapes, and their radii follow a power law, the number of those
above a radius falling with its square, which gives the statistics of natural images whatever the distance ("Occlusion
models for natural images", Lee, Mumford and Huang, 2001). The shapes are blobs, ellipses, polygons and tapering strokes
in the colours of a photograph: plain, shaded, striped, spotted, rough, or cut from the photograph.

With one seed and one folder, the images are the same on every machine with the same version of Pillow.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from random import Random

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 720
"""Width and height of an image in pixels."""
FINE = 3
"""Shapes are drawn so many times larger, then averaged, which gives their edges the softness of a pixel."""
LONGEST = 900
"""Photographs are shrunk by the whole factor that brings their longer side to at most so many pixels."""

Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Paints:
    """Paints that fill the shapes of an image.

    Attributes:
        rng: source of all choices.
        photo: photograph that gives the colours.
        colours: some of its colours, with a few strong ones and almost black and white.
        cut_out: share of the shapes that are cut from the photograph.
    """

    rng: Random
    photo: Image.Image
    colours: list[Colour]
    cut_out: float

    def fill(self, width: int, height: int, radius: float) -> Image.Image:
        """A picture of the given size to cut a shape from; small shapes are plain."""
        fits = self.photo.width > width // FINE + 2 and self.photo.height > height // FINE + 2
        if self.rng.random() < self.cut_out and fits:
            return self._piece(width, height)
        kind = self.rng.random()
        ways = (
            (0.22, self._plain),
            (0.46, self._shaded),
            (0.66, self._striped),
            (0.84, self._spotted),
            (1.0, self._rough),
        )
        if radius < 8 * FINE:
            return self._plain(width, height)
        return next(way for share, way in ways if kind < share)(width, height)

    def any(self) -> Colour:
        """One of the colours."""
        return self.rng.choice(self.colours)

    def _piece(self, width: int, height: int) -> Image.Image:
        columns, rows = width // FINE + 1, height // FINE + 1
        left = self.rng.randrange(self.photo.width - columns + 1)
        top = self.rng.randrange(self.photo.height - rows + 1)
        piece = self.photo.crop((left, top, left + columns, top + rows))
        return piece.resize((width, height), Image.Resampling.BICUBIC)

    def _plain(self, width: int, height: int) -> Image.Image:
        return Image.new("RGB", (width, height), self.any())

    def _shaded(self, width: int, height: int) -> Image.Image:
        ramp = Image.linear_gradient("L").rotate(self.rng.choice((0, 90, 180, 270))).resize((width, height))
        first, second, share = self.any(), self.any(), self.rng.uniform(0.15, 0.8)
        mixed = tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
        return Image.composite(Image.new("RGB", ramp.size, mixed), Image.new("RGB", ramp.size, first), ramp)

    def _striped(self, width: int, height: int) -> Image.Image:
        image, ink = self._plain(width, height), self.any()
        draw, rng, reach = ImageDraw.Draw(image), self.rng, max(width, height)
        period, part, bend = rng.uniform(2.5, 14) * FINE, rng.uniform(0.25, 0.6), rng.uniform(-0.4, 0.4)
        angle = rng.uniform(0, math.tau)
        across, along = math.cos(angle), math.sin(angle)
        for number in range(-round(0.75 * reach / period) - 1, round(0.75 * reach / period) + 2):
            points = []
            for step in range(-12, 13):
                t = reach * step / 12
                aside = number * period + bend * t * abs(t) / reach
                points.append((width / 2 + across * aside - along * t, height / 2 + along * aside + across * t))
            stroke(draw, points, period * part, ink, tapers=False)
        return image

    def _spotted(self, width: int, height: int) -> Image.Image:
        image, ink = self._plain(width, height), self.any()
        draw, rng = ImageDraw.Draw(image), self.rng
        for _ in range(min(400, width * height // (60 * FINE**2))):
            x, y, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.8, 4) * FINE
            flat = radius * rng.uniform(0.5, 1)
            draw.ellipse((x - radius, y - flat, x + radius, y + flat), fill=ink)
        return image

    def _rough(self, width: int, height: int) -> Image.Image:
        grain = FINE * self.rng.choice((1, 2, 3))
        noise = np.random.default_rng(self.rng.getrandbits(32))
        levels = noise.normal(0, self.rng.uniform(4, 25), (height // grain + 2, width // grain + 2))
        smooth = Image.fromarray(levels.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
        values = np.array(self.any(), np.float32) + np.asarray(smooth)[..., None]
        return Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8))


def outline(rng: Random, radius: float) -> list[Point]:
    """The corners of a closed shape around the origin: an ellipse, a blob with a wavy rim, or a polygon."""
    kind, stretch, turn = rng.random(), rng.uniform(0.3, 1), rng.uniform(0, math.tau)
    if kind > 0.8:
        corners = rng.randint(3, 7)
        angles = [math.tau * k / corners + rng.uniform(-0.3, 0.3) for k in range(corners)]
        radii = [radius] * corners
    else:
        depth = 0.0 if kind < 0.25 else rng.uniform(0.05, 0.45)
        waves = [(n, depth * rng.gauss(0, 1) / n**1.5, rng.uniform(0, math.tau)) for n in range(2, 7)]
        angles = [math.tau * k / 72 for k in range(72)]
        radii = [radius * (1 + sum(size * math.cos(n * angle + phase) for n, size, phase in waves)) for angle in angles]
    points = []
    for angle, length in zip(angles, radii, strict=True):
        x, y = length * math.cos(angle), stretch * length * math.sin(angle)
        points.append((x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)))
    return points


def curve(rng: Random, x: float, y: float, length: float) -> list[Point]:
    """Points along a line that bends at random, from (x, y)."""
    angle, bend, points = rng.uniform(0, math.tau), rng.gauss(0, 0.05), []
    for _ in range(40):
        points.append((x, y))
        bend = 0.95 * (bend + rng.gauss(0, 0.02))
        angle += bend
        x, y = x + length / 40 * math.cos(angle), y + length / 40 * math.sin(angle)
    return points


def stroke(draw: ImageDraw.ImageDraw, points: list[Point], width: float, ink: Colour, tapers: bool) -> None:
    """Draw a line as a polygon, which may be thinner than a pixel, and thin at its ends."""
    left, right = [], []
    for number, (x, y) in enumerate(points):
        (x0, y0), (x1, y1) = points[max(number - 1, 0)], points[min(number + 1, len(points) - 1)]
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        half = width / 2 * (math.sin(math.pi * (0.05 + 0.9 * number / len(points))) if tapers else 1)
        left.append((x - (y1 - y0) / length * half, y + (x1 - x0) / length * half))
        right.append((x + (y1 - y0) / length * half, y - (x1 - x0) / length * half))
    draw.polygon(left + right[::-1], fill=ink)


def leaves(rng: Random, photo: Image.Image) -> Image.Image:
    """One image, in the colours of a photograph."""
    pixels = np.asarray(photo.resize((64, 64), Image.Resampling.BILINEAR)).reshape(-1, 3)
    colours: list[Colour] = [tuple(map(int, pixels[rng.randrange(len(pixels))])) for _ in range(24)]  # type: ignore[misc]
    colours += [(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(3)]
    colours += [(8, 8, 8), (245, 245, 245)]
    paints = Paints(rng, photo, colours, rng.choice((0.0, 0.0, 0.3, 0.6)))
    side, largest = SIDE * FINE, rng.uniform(60, 220)
    smallest = rng.choice((rng.uniform(3, 8), rng.uniform(3, 8), rng.uniform(8, 20)))
    image = Image.new("RGB", (side, side), paints.any())
    radii = [FINE / math.sqrt(rng.uniform(largest**-2, smallest**-2)) for _ in range(round(12000 / smallest))]
    for radius in sorted(radii, reverse=True):  # large shapes would hide all small ones
        x, y = rng.uniform(0, side), rng.uniform(0, side)
        if rng.random() < 0.18:
            draw_strokes(ImageDraw.Draw(image), rng, (x, y), radius, paints.any())
        else:
            points = [(x + dx, y + dy) for dx, dy in outline(rng, radius)]
            paste_shape(image, points, paints, radius)
            if rng.random() < 0.25:
                width = max(1, int(rng.uniform(0.6, 2.5) * FINE))
                ImageDraw.Draw(image).line([*points, points[0]], fill=paints.any(), width=width, joint="curve")
    blur = rng.choice((0, 0, 0, 0.35, 0.5, 0.7))
    return image.filter(ImageFilter.GaussianBlur(blur * FINE)).reduce(FINE)


def draw_strokes(draw: ImageDraw.ImageDraw, rng: Random, start: Point, radius: float, ink: Colour) -> None:
    """Draw a thin line, or a few side by side."""
    width, tapers = rng.uniform(1, 4) * FINE, rng.random() < 0.6
    points = curve(rng, *start, radius * rng.uniform(2, 8))
    for number in range(rng.choice((1, 1, 1, 3, 5))):
        aside = number * width * rng.uniform(1.8, 2.2)
        stroke(draw, [(x + aside, y + 0.7 * number * width) for x, y in points], width, ink, tapers)


def paste_shape(image: Image.Image, points: list[Point], paints: Paints, radius: float) -> None:
    """Fill a shape, as far as it lies in the image."""
    xs, ys = zip(*points, strict=True)
    left, top = max(0, math.floor(min(xs))), max(0, math.floor(min(ys)))
    right, bottom = min(image.width, math.ceil(max(xs)) + 1), min(image.height, math.ceil(max(ys)) + 1)
    if right - left < 2 or bottom - top < 2:
        return
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in points], fill=255)
    image.paste(paints.fill(*mask.size, radius), (left, top), mask)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--photographs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder of JPEG files that give the colours.",
)
@click.option("--count", default=120, show_default=True, type=click.IntRange(1), help="Images to draw.")
@click.option("--seed", default=0, show_default=True, help="Another seed gives other images.")
def main(out: Path, photographs: Path, count: int, seed: int) -> None:
    """Draw training images of overlapping shapes into the folder OUT."""
    files = sorted(photographs.glob("*.jpg"))
    if not files:
        message = f"no .jpg file in {photographs}: give a folder of photographs"
        raise click.ClickException(message)
    out.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rng = Random(1000 * seed + number)
        photo = Image.open(rng.choice(files)).convert("RGB")
        leaves(rng, photo.reduce(-(-max(photo.size) // LONGEST))).save(out / f"leaves_{number:03d}.png")
    print(out)


if __name__ == "__main__":
    main()
