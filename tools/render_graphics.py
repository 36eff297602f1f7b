"""Draw training images of what people upscale besides photographs.

    python tools/render_graphics.py OUT [--count N] [--seed S] [--scale 4]

Photographs alone teach a network little about one-pixel lines, letters and flat colours. There are two groups of
drawings. Text, windows, charts, line art and pixel graphics are drawn at full resolution, as a good screenshot would
show them. Scans, sprites, plots, icons and patterns are drawn so small that their details are single pixels, then
enlarged by the scale, by repeating each pixel or with smooth edges: reduced again for training, they give the
low-resolution pictures that people have. Flat pictures teach what to do at borders.

All shapes are drawn at random, so there is nothing to download and nothing to licence; the fonts are those that
Matplotlib brings along. With one seed, the images are the same on every machine with the same versions of Matplotlib
and Pillow.
"""

import colorsys
import math
from collections.abc import Iterator
from pathlib import Path
from random import Random

import click
import matplotlib as mpl
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

WIDTH, HEIGHT = 960, 768
FINE = 4  # smooth shapes are drawn this much larger, then averaged
Colour = tuple[int, int, int]

FONTS = [
    path
    for path in sorted((Path(mpl.get_data_path()) / "fonts" / "ttf").glob("*.ttf"))
    if path.name.startswith(("DejaVuSans", "DejaVuSerif", "STIXGeneral", "cmr", "cmtt", "cmss"))
    and "Display" not in path.name
]
LETTERS = "eeeeeetttttaaaaooooiiiinnnnsssshhhrrrdddlllccuummwwffggyyppbbvkjxqz"


def colour(rng: Random, light: tuple[float, float] = (0.0, 1.0)) -> Colour:
    """A random RGB colour with a lightness in the given range; often grey, as in user interfaces."""
    saturation = rng.choice((0.0, 0.0, rng.uniform(0.2, 1.0)))
    red, green, blue = colorsys.hls_to_rgb(rng.random(), rng.uniform(*light), saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def ink_and_paper(rng: Random) -> tuple[Colour, Colour]:
    """Two colours that can be told apart, either of them the darker."""
    dark, light = colour(rng, (0.0, 0.35)), colour(rng, (0.75, 1.0))
    return (dark, light) if rng.random() < 0.7 else (light, dark)


def font(rng: Random, size: int) -> ImageFont.FreeTypeFont:
    """A random font of the given size in pixels."""
    return ImageFont.truetype(rng.choice(FONTS), size)


def words(rng: Random, count: int) -> str:
    """Something that looks like writing."""
    made = []
    for _ in range(count):
        word = "".join(rng.choice(LETTERS) for _ in range(rng.randint(1, 10)))
        kind = rng.random()
        if kind < 0.15:
            word = word.capitalize()
        elif kind < 0.2:
            word = word.upper()
        elif kind < 0.3:
            word = f"{rng.uniform(0, 10 ** rng.randint(0, 5)):.{rng.randint(0, 3)}f}"
        made.append(word + rng.choice(("", "", "", "", ",", ".", ";", ":", "!", "()", "-", "%")))
    return " ".join(made)


def text(rng: Random) -> Image.Image:
    """Pages of writing: several blocks, each with its own font, size and colours."""
    image = Image.new("RGB", (WIDTH, HEIGHT), ink_and_paper(rng)[1])
    draw = ImageDraw.Draw(image)
    top = 0
    while top < HEIGHT:
        ink, paper = ink_and_paper(rng)
        size = rng.choice((10, 11, 12, 13, 14, 16, 18, 20, 24, 30, 40, 56))
        face, lines = font(rng, size), rng.randint(2, 9)
        step = round(size * rng.uniform(1.2, 1.6))
        draw.rectangle((0, top, WIDTH, top + lines * step + 8), fill=paper)
        left = rng.randint(2, 40)
        for line in range(lines):
            draw.text((left, top + 4 + line * step), words(rng, 1200 // (4 * size)), font=face, fill=ink)
        top += lines * step + 8
    return image


def windows(rng: Random) -> Image.Image:
    """A desktop: frames, buttons, lists, icons and a chart."""
    image = Image.new("RGB", (WIDTH, HEIGHT), colour(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(5, 9)):
        ink, paper = ink_and_paper(rng)
        left, top = rng.randint(-60, WIDTH - 200), rng.randint(-40, HEIGHT - 160)
        right, bottom = left + rng.randint(200, 560), top + rng.randint(140, 420)
        border = rng.randint(1, 3)
        draw.rounded_rectangle((left, top, right, bottom), rng.choice((0, 0, 6, 12)), paper, ink, border)
        bar = rng.randint(18, 30)
        draw.rectangle((left + border, top + border, right - border, top + bar), fill=colour(rng))
        draw.text((left + 8, top + 3), words(rng, 3), font=font(rng, 13), fill=ink)
        row = top + bar + 8
        face = font(rng, rng.choice((11, 12, 13, 15)))
        while row < bottom - 24:
            kind = rng.random()
            if kind < 0.2:
                draw.rounded_rectangle((left + 10, row, left + 90, row + 20), 5, colour(rng), ink)
                draw.text((left + 18, row + 3), words(rng, 1), font=face, fill=ink)
            elif kind < 0.3:
                draw.line((left + 6, row + 9, right - 6, row + 9), fill=colour(rng), width=1)
            elif kind < 0.45:
                for number in range(rng.randint(2, 6)):
                    box = (left + 12 + 28 * number, row, left + 32 + 28 * number, row + 20)
                    shape = rng.choice((draw.rectangle, draw.ellipse))
                    shape(box, fill=colour(rng), outline=ink)
            else:
                draw.text((left + 12, row), words(rng, (right - left) // 55), font=face, fill=ink)
            row += 24
    return image


def chart(rng: Random) -> Image.Image:
    """Axes, a grid, curves, bars and their labels."""
    ink, paper = ink_and_paper(rng)
    image = Image.new("RGB", (WIDTH * FINE // 2, HEIGHT * FINE // 2), paper)
    draw = ImageDraw.Draw(image)
    unit = FINE // 2
    columns, rows = rng.randint(1, 3), rng.randint(1, 2)
    for cell in range(columns * rows):
        x0 = (cell % columns) * WIDTH // columns + 50
        y0 = (cell // columns) * HEIGHT // rows + 30
        x1, y1 = x0 + WIDTH // columns - 70, y0 + HEIGHT // rows - 70
        faint = colour(rng, (0.4, 0.7))
        for k in range(9):
            x, y = x0 + (x1 - x0) * k // 8, y0 + (y1 - y0) * k // 8
            draw.line((x * unit, y0 * unit, x * unit, y1 * unit), fill=faint, width=1)
            draw.line((x0 * unit, y * unit, x1 * unit, y * unit), fill=faint, width=1)
            label = f"{rng.uniform(-99, 999):.{rng.randint(0, 2)}f}"
            draw.text(((x0 - 44) * unit, (y - 6) * unit), label, font=font(rng, 11 * unit), fill=ink)
        if rng.random() < 0.4:
            width = (x1 - x0) // 12
            for k in range(12):
                high = rng.uniform(0.05, 0.95) * (y1 - y0)
                box = (x0 + k * width + 3, y1 - high, x0 + (k + 1) * width - 3, y1)
                draw.rectangle(tuple(unit * value for value in box), fill=colour(rng))
        for _ in range(rng.randint(1, 5)):
            value, points = rng.uniform(0.2, 0.8), []
            for x in range(x0, x1, rng.choice((2, 6, 15))):
                value = min(max(value + rng.gauss(0, 0.03), 0), 1)
                points.append((x * unit, (y0 + value * (y1 - y0)) * unit))
            draw.line(points, fill=colour(rng, (0.2, 0.7)), width=rng.randint(unit, 3 * unit), joint="curve")
        draw.rectangle((x0 * unit, y0 * unit, x1 * unit, y1 * unit), outline=ink, width=unit)
        draw.text((x0 * unit, (y0 - 22) * unit), words(rng, 4), font=font(rng, 15 * unit), fill=ink)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)


def line_art(rng: Random) -> Image.Image:
    """Curves, hatching and flat fills with outlines, as in drawings and comics."""
    ink, paper = ink_and_paper(rng)
    image = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), paper)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(30, 60)):
        x, y, size = rng.randint(0, WIDTH), rng.randint(0, HEIGHT), rng.uniform(20, 200)
        width = round(FINE * rng.choice((0.7, 1, 1, 1.5, 2, 3, 5)))
        waves = [(rng.randint(1, 5), rng.uniform(0, 0.25), rng.uniform(0, 6.3)) for _ in range(3)]
        outline = []
        for step in range(181):
            angle = math.tau * step / 180
            radius = size * (1 + sum(depth * math.sin(n * angle + phase) for n, depth, phase in waves))
            outline.append((FINE * (x + radius * math.cos(angle)), FINE * (y + radius * math.sin(angle))))
        kind = rng.random()
        if kind < 0.5:
            draw.polygon(outline, fill=colour(rng, (0.3, 0.95)))
            draw.line(outline, fill=ink, width=width, joint="curve")
        elif kind < 0.75:
            draw.line(outline[: rng.randint(30, 180)], fill=ink, width=width, joint="curve")
        else:
            slope, gap = rng.uniform(-1.5, 1.5), rng.uniform(3, 9)
            for k in range(int(size / gap)):
                start = (FINE * (x + k * gap), FINE * y)
                draw.line((*start, start[0] + FINE * slope * size, start[1] + FINE * size), fill=ink, width=width)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.BOX)


def pixels(rng: Random) -> Image.Image:
    """Sprites and patterns of few colours, each pixel shown as a square."""
    image = Image.new("RGB", (WIDTH, HEIGHT), colour(rng))
    for top in range(0, HEIGHT, 192):
        for left in range(0, WIDTH, 192):
            palette = [colour(rng) for _ in range(rng.randint(2, 6))]
            unit = rng.choice((3, 4, 4, 5, 6, 8, 12))  # of single pixels nothing is left to learn from at x4
            side = 192 // unit
            sprite = Image.new("RGB", (side, side), palette[0])
            kind = rng.random()
            cell = rng.choice((8, 12, 16, 24))
            for y in range(side):
                for x in range(side):
                    if kind < 0.5:  # mirrored creatures: a random half, and the same again
                        column = min(x % cell, cell - 1 - x % cell)
                        which = Random(hash((x // cell, y // cell, column, y % cell, top, left))).random()
                        index = int(which * 2 * len(palette))
                    elif kind < 0.7:  # an ordered dither from one colour to the next
                        index = int(x / side * (len(palette) - 1) + ((x + 2 * y) % 4) / 4)
                    else:  # stripes and checks
                        index = (x // (1 + cell // 8) + (y // 2 if kind < 0.85 else 0)) % len(palette)
                    if index < len(palette):
                        sprite.putpixel((x, y), palette[index])
            image.paste(sprite.resize((side * unit, side * unit), Image.Resampling.NEAREST), (left, top))
    return image


def enlarged(small: Image.Image, scale: int, smooth: bool = False) -> Image.Image:
    """Enlarge a small drawing to at least WIDTH x HEIGHT.

    Args:
        small: What was drawn, one pixel for each of the low-resolution picture.
        scale: How many times larger it becomes.
        smooth: Whether the steps of slanted edges are rounded off, as a drawing at this size would have them; otherwise
            every pixel becomes a square.
    """
    size = (small.width * scale, small.height * scale)
    if not smooth:
        return small.resize(size, Image.Resampling.NEAREST)
    # Edges of the bicubic result, which is blurred, made steep again around half of their height.
    values = np.asarray(small.resize(size, Image.Resampling.BICUBIC), np.float32)
    low, high = (
        np.asarray(small.resize(size, Image.Resampling.NEAREST).filter(kind(2 * scale + 1)), np.float32)
        for kind in (ImageFilter.MinFilter, ImageFilter.MaxFilter)
    )
    steep = (values - (low + high) / 2) * 2.5 + (low + high) / 2
    return Image.fromarray(np.clip(steep, low, high).round().astype(np.uint8))


def canvas(paper: Colour, scale: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty low-resolution picture, and what draws on it without soft edges."""
    image = Image.new("RGB", (WIDTH // scale, HEIGHT // scale), paper)
    draw = ImageDraw.Draw(image)
    draw.fontmode = "1"
    return image, draw


def strong(rng: Random) -> tuple[Colour, Colour]:
    """Two colours for ink and paper, most often black and white or full primary colours."""
    kind = rng.random()
    if kind < 0.35:
        pair = [(0, 0, 0), (255, 255, 255)]
    elif kind < 0.65:
        pair = rng.sample([tuple(255 * (code >> bit & 1) for bit in range(3)) for code in range(8)], 2)
    else:
        pair = list(ink_and_paper(rng))
    if rng.random() < 0.3:
        pair.reverse()
    return pair[0], pair[1]


def scan(rng: Random, scale: int) -> Image.Image:
    """A page of two colours: letters without soft edges, rules, stamps, and the specks of a scanner."""
    ink, paper = strong(rng)
    image, draw = canvas(paper, scale)
    top = rng.randint(0, 6)
    while top < image.height:
        size = rng.choice((7, 8, 9, 10, 11, 12, 14, 16, 20, 28))
        face = font(rng, size)
        for _ in range(rng.randint(1, 4)):
            draw.text((rng.randint(0, 12), top), words(rng, 12), font=face, fill=ink)
            top += round(size * rng.uniform(1.1, 1.6))
        if rng.random() < 0.3:
            draw.line((rng.randint(0, 40), top, image.width - rng.randint(0, 40), top + rng.randint(-3, 3)), fill=ink)
            top += rng.randint(2, 6)
    for _ in range(rng.choice((0, 0, 10, 60))):
        draw.point((rng.randrange(image.width), rng.randrange(image.height)), fill=ink)
    return enlarged(image, scale, smooth=rng.random() < 0.7)


def plot(rng: Random, scale: int) -> Image.Image:
    """Axes, grids, curves and boxes made of lines one or two pixels wide, slanted ones among them."""
    ink, paper = strong(rng)
    image, draw = canvas(paper, scale)
    for _ in range(rng.randint(25, 45)):
        x0, y0 = rng.randint(-10, image.width - 20), rng.randint(-10, image.height - 20)
        x1, y1 = x0 + rng.randint(15, 110), y0 + rng.randint(15, 90)
        tint, width = rng.choice((ink, ink, colour(rng))), rng.choice((1, 1, 1, 2))
        kind = rng.random()
        if kind < 0.25:
            step = rng.randint(2, 12)
            for x in range(x0, x1, step):
                draw.line((x, y0, x, y1), fill=tint)
            for y in range(y0, y1, step) if kind < 0.15 else ():
                draw.line((x0, y, x1, y), fill=tint)
        elif kind < 0.5:
            value = rng.uniform(y0, y1)
            points = [(x, value := min(max(value + rng.gauss(0, 4), y0), y1)) for x in range(x0, x1, 4)]
            draw.line(points, fill=tint, width=width)
        elif kind < 0.75:
            for _ in range(rng.randint(1, 6)):
                draw.line([rng.randint(x0, x1), rng.randint(y0, y1), x1, rng.randint(y0, y1)], fill=tint, width=width)
        elif kind < 0.9:
            shape = rng.choice((draw.rectangle, draw.ellipse))
            shape((x0, y0, x1, y1), outline=tint, width=width)
        else:
            draw.text((x0, y0), words(rng, 2), font=font(rng, rng.choice((8, 9, 10, 12))), fill=tint)
    return enlarged(image, scale, smooth=rng.random() < 0.6)


def sprites(rng: Random, scale: int) -> Image.Image:
    """Mirrored creatures of few colours, each of their pixels one, two or three of the low-resolution picture."""
    image, _ = canvas(strong(rng)[1], scale)
    for top in range(0, image.height, 48):
        for left in range(0, image.width, 48):
            unit = rng.choice((1, 2, 2, 2, 3))
            palette = [rng.choice((strong(rng)[0], colour(rng))) for _ in range(rng.randint(2, 6))]
            side = 48 // unit
            cell = rng.choice((8, 8, 12, 16, side))
            for _ in range(1 if rng.random() < 0.5 else 3):
                half = [[rng.choice(palette) for _ in range((cell + 1) // 2)] for _ in range(cell)]
                symmetric = rng.random() < 0.7
                sprite = Image.new("RGB", (cell, cell))
                sprite.putdata(
                    [
                        (half[y][min(x, cell - 1 - x)] if symmetric else rng.choice(palette))
                        for y in range(cell)
                        for x in range(cell)
                    ]
                )
                big = sprite.resize((cell * unit, cell * unit), Image.Resampling.NEAREST)
                image.paste(big, (left + rng.randint(0, 48 - cell * unit), top + rng.randint(0, 48 - cell * unit)))
    return enlarged(image, scale)


def patterns(rng: Random, scale: int) -> Image.Image:
    """Checkers, stripes, dots and dithers, most of them with a period of two pixels."""
    image, _ = canvas((0, 0, 0), scale)
    y, x = np.mgrid[: image.height, : image.width]
    pixels = np.array(image)
    edge = 80 if rng.random() < 0.7 else 40
    for top in range(0, image.height, edge):
        for left in range(0, image.width, edge):
            first, second = strong(rng)
            width = rng.choice((1, 1, 1, 1, 2, 3))
            mask = rng.choice(
                (
                    (x // width + y // width) % 2 == 0,
                    x // width % 2 == 0,
                    y // width % 2 == 0,
                    x // width % 2 == 0,
                    y // width % 2 == 0,
                    (x + y) // width % rng.choice((2, 3, 4)) == 0,
                    (x % (width + 1) == 0) & (y % (width + 1) == 0),
                    (x + 2 * y) % 4 < (x - left) * 4 // edge,
                )
            )
            part = np.s_[top : top + edge, left : left + edge]
            pixels[part] = np.where(mask[part][..., None], first, second)
    return enlarged(Image.fromarray(pixels), scale)


def icons(rng: Random, scale: int) -> Image.Image:
    """Round shapes with soft edges on flat colours: their colours on half of the picture, their masks on the other."""
    size = (WIDTH // scale, HEIGHT // scale)
    image = Image.new("RGB", (WIDTH, HEIGHT), colour(rng))
    mask = Image.new("L", image.size)
    for _ in range(rng.randint(80, 150)):
        side = rng.choice((8, 12, 16, 24, 32)) * scale
        shape = Image.new("L", (side * FINE, side * FINE))
        draw = ImageDraw.Draw(shape)
        for _ in range(rng.randint(1, 4)):
            left, top = (rng.randint(0, side * FINE // 2) for _ in range(2))
            box = (left, top, left + rng.randint(side, side * FINE // 2), top + rng.randint(side, side * FINE // 2))
            kind = rng.choice((draw.ellipse, draw.rectangle, draw.rounded_rectangle))
            kind(
                box, **({"radius": side // 2} if kind == draw.rounded_rectangle else {}), fill=rng.choice((255, 255, 0))
            )
        shape = shape.resize((side, side), Image.Resampling.BOX)
        at = rng.randrange(size[0]) * scale, rng.randrange(size[1]) * scale
        image.paste(colour(rng), at, shape)
        mask.paste(255, at, shape)
    if rng.random() < 0.5:
        mask = ImageChops.invert(mask)
    half = mask.convert("RGB").crop((0, 0, WIDTH // 2, HEIGHT))
    image.paste(half, (rng.choice((0, WIDTH // 2)), 0))
    return image


def flat(rng: Random, scale: int) -> Image.Image:
    """One colour up to the border, or two that meet along a straight line."""
    image, draw = canvas(rng.choice((strong(rng)[0], tuple(rng.randrange(256) for _ in range(3)))), scale)
    if rng.random() < 0.3:
        draw.rectangle((rng.randrange(image.width), 0, image.width, image.height), fill=strong(rng)[0])
    return enlarged(image, scale)


FULL_SIZE = (text, windows, chart, line_art, pixels)
"""Kinds of drawings that are made at full resolution."""
SINGLE_PIXELS = (scan, sprites, patterns, plot, flat, scan, sprites, patterns, icons, flat)
"""Kinds of drawings that are made at low resolution and enlarged; the hardest come twice."""


def drawings(count: int, seed: int, scale: int) -> Iterator[tuple[str, Image.Image]]:
    """Yield names and drawings, those of full size and those of single pixels in turn."""
    for number in range(count):
        rng = Random(1000 * seed + number)
        if number % 2:
            small = SINGLE_PIXELS[number // 2 % len(SINGLE_PIXELS)]
            yield f"{small.__name__}_{number:03d}", small(rng, scale)
        else:
            full = FULL_SIZE[number // 2 % len(FULL_SIZE)]
            yield f"{full.__name__}_{number:03d}", full(rng)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--count", default=80, show_default=True, type=click.IntRange(1), help="Images to draw.")
@click.option("--seed", default=0, show_default=True, help="Another seed gives other images.")
@click.option("--scale", default=4, show_default=True, type=click.IntRange(2, 4), help="Scale of the network to train.")
def main(out: Path, count: int, seed: int, scale: int) -> None:
    """Draw training images into the folder OUT."""
    out.mkdir(parents=True, exist_ok=True)
    for name, image in drawings(count, seed, scale):
        image.save(out / f"{name}.png")
    print(out)


if __name__ == "__main__":
    main()
