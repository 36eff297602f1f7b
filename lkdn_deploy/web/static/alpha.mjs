// Colours for fully transparent pixels, as lkdn_deploy/imaging/alpha.py finds them and explains why. Each step is
// rounded to float32 as NumPy does, so that the results are equal.

const HALVINGS = 4; // from the picture to the grid that is kept whole
const BLOCK = 1 << HALVINGS; // rows of the picture to one of that grid
const CHUNK = 1 << 18; // pixels filled at once, about
const CHANNELS = 3;
const { fround } = Math;

/** The colours of a picture, extended smoothly over its fully transparent pixels. */
export class FilledColour {
  #picture;
  #step;
  #coarse = null;

  /** @param {{ data: Uint8Array | Uint8ClampedArray, width: number, height: number }} picture RGBA */
  constructor(picture) {
    this.#picture = picture;
    this.#step = Math.max(Math.floor(CHUNK / picture.width / BLOCK), 1) * BLOCK;
    let lowest = 255;
    let highest = 0;
    for (let at = 3; at < picture.data.length; at += 4) {
      const alpha = picture.data[at];
      if (alpha < lowest) lowest = alpha;
      if (alpha > highest) highest = alpha;
    }
    /** The alpha of all pixels, or null if they differ. */
    this.constantAlpha = lowest === highest ? lowest : null;
    if (lowest === 0 && highest > 0) this.#coarse = this.#fillCoarse();
  }

  /** The rows top … bottom as RGBA: a view of the picture, or a copy with colours filled. */
  read(top, bottom) {
    const { data, width } = this.#picture;
    const rows = data.subarray(4 * width * top, 4 * width * bottom);
    if (this.#coarse === null || visible(rows)) return rows;
    const filled = rows.slice();
    for (let at = top; at < bottom; at += this.#step) this.#fill(filled, top, at, Math.min(at + this.#step, bottom));
    return filled;
  }

  /** The coarse grid of the whole picture, without gaps. */
  #fillCoarse() {
    const { width, height } = this.#picture;
    let coarse = emptyGrid(Math.ceil(height / BLOCK), Math.ceil(width / BLOCK));
    for (let top = 0; top < height; top += this.#step) {
      const part = halved(this.#grid(top, Math.min(top + this.#step, height))).at(-1);
      const cell = (top / BLOCK) * coarse.width;
      coarse.values.set(part.values, CHANNELS * cell);
      coarse.weights.set(part.weights, cell);
    }
    const levels = [];
    while (!coarse.weights.every((weight) => weight > 0)) {
      levels.push(coarse);
      coarse = coarser(coarse);
    }
    return pulled(coarse, levels);
  }

  /** Fill the rows top … bottom of `rows`, which begin with row `origin`. */
  #fill(rows, origin, top, bottom) {
    const { data, width, height } = this.#picture;
    // Whole blocks, and one more on each side: where rows are cut off, the interpolation lacks a neighbour.
    const first = Math.max(Math.floor(top / BLOCK) - 1, 0) * BLOCK;
    const last = Math.min((Math.ceil(bottom / BLOCK) + 1) * BLOCK, height);
    const levels = halved(this.#grid(first, last)).slice(0, -1);
    const { values } = pulled(cropped(this.#coarse, first / BLOCK, Math.ceil(last / BLOCK)), levels);
    for (let pixel = top * width; pixel < bottom * width; pixel++) {
      if (data[4 * pixel + 3] > 0) continue;
      for (let channel = 0; channel < CHANNELS; channel++)
        rows[4 * (pixel - origin * width) + channel] = halfToEven(values[CHANNELS * (pixel - first * width) + channel]);
    }
  }

  #grid(top, bottom) {
    const { data, width } = this.#picture;
    const grid = emptyGrid(bottom - top, width);
    for (let pixel = 0, at = 4 * top * width; pixel < grid.weights.length; pixel++, at += 4) {
      for (let channel = 0; channel < CHANNELS; channel++) grid.values[CHANNELS * pixel + channel] = data[at + channel];
      grid.weights[pixel] = data[at + 3];
    }
    return grid;
  }
}

function visible(rows) {
  for (let at = 3; at < rows.length; at += 4) if (rows[at] === 0) return false;
  return true;
}

const rounding = new Uint8ClampedArray(1);
const halfToEven = (value) => ((rounding[0] = value), rounding[0]);

const emptyGrid = (height, width) => ({
  height,
  width,
  values: new Float32Array(CHANNELS * height * width),
  weights: new Float32Array(height * width),
});

const cropped = ({ width, values }, top, bottom) => ({
  height: bottom - top,
  width,
  values: values.subarray(CHANNELS * width * top, CHANNELS * width * bottom),
});

/** The grids of rows that begin with a block, from their own down to the coarse one. */
function halved(grid) {
  const levels = [grid];
  for (let number = 0; number < HALVINGS; number++) levels.push(coarser(levels.at(-1)));
  return levels;
}

/** Halve both sides, rounding up: each cell is the weighted mean of up to four, its weight their sum. */
function coarser({ height, width, values, weights }) {
  const grid = emptyGrid(Math.ceil(height / 2), Math.ceil(width / 2));
  const pairs = (y, x, of) => {
    const down = (column) =>
      2 * y + 1 < height ? fround(of(2 * y, column) + of(2 * y + 1, column)) : of(2 * y, column);
    return 2 * x + 1 < width ? fround(down(2 * x) + down(2 * x + 1)) : down(2 * x);
  };
  for (let y = 0; y < grid.height; y++)
    for (let x = 0; x < grid.width; x++) {
      const cell = y * grid.width + x;
      const total = pairs(y, x, (row, column) => weights[row * width + column]);
      grid.weights[cell] = total;
      for (let channel = 0; channel < CHANNELS; channel++) {
        const weighted = pairs(y, x, (row, column) => {
          const at = row * width + column;
          return fround(values[CHANNELS * at + channel] * weights[at]);
        });
        grid.values[CHANNELS * cell + channel] = weighted / (total > 0 ? total : 1);
      }
    }
  return grid;
}

/** Fill the gaps of ever finer grids, the last of which comes first, from one without gaps. */
function pulled(filled, levels) {
  let found = filled;
  for (const level of levels.toReversed()) {
    const finer = doubled(found, level.height, level.width);
    for (let cell = 0; cell < level.weights.length; cell++)
      if (level.weights[cell] > 0)
        for (let at = CHANNELS * cell; at < CHANNELS * (cell + 1); at++) finer.values[at] = level.values[at];
    found = finer;
  }
  return found;
}

/** Double both sides by bilinear interpolation, cropped to (height, width). */
function doubled({ height: rows, width: columns, values }, height, width) {
  const near = (at) => Math.floor(at / 2);
  const far = (at, length) => Math.min(Math.max(near(at) + (at % 2) * 2 - 1, 0), length - 1);
  const between = (one, other) => fround(fround(0.75 * one) + fround(0.25 * other));
  const line = new Float32Array(CHANNELS * columns);
  const found = new Float32Array(CHANNELS * height * width);
  for (let y = 0; y < height; y++) {
    const above = CHANNELS * columns * near(y);
    const below = CHANNELS * columns * far(y, rows);
    for (let at = 0; at < line.length; at++) line[at] = between(values[above + at], values[below + at]);
    for (let x = 0; x < width; x++)
      for (let channel = 0; channel < CHANNELS; channel++)
        found[CHANNELS * (y * width + x) + channel] = between(
          line[CHANNELS * near(x) + channel],
          line[CHANNELS * far(x, columns) + channel],
        );
  }
  return { height, width, values: found };
}
