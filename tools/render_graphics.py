"""Draw training images of what screenshots show: text, windows, charts, line art and pixel graphics.

    python tools/render_graphics.py OUT [--count N] [--seed S]

Photographs alone teach a network little about one-pixel lines, letters and flat colours. All shapes are drawn at
random here, so there is nothing to download and nothing to licence; the fonts are those that Matplotlib and Pillow
bring along. Seen at one seed, the images are the same on every machine with the same versions of these two.
"""

import colorsys
import math
from pathlib import Path
from random import Random

import click
import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

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


KINDS = (text, windows, chart, line_art, pixels)


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--count", default=40, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
def main(out: Path, count: int, seed: int) -> None:
    """Draw COUNT images into the folder OUT."""
    out.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        kind(Random(1000 * seed + number)).save(out / f"{kind.__name__}_{number:03d}.png")
    print(out)


if __name__ == "__main__":
    main()
