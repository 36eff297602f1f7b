// Draws a result: its overview, and above it the pieces that are on the stage, which are read when they are needed.

const MOST = 48; // pieces in memory, 4 MB each

export class Pieces {
  #result = null;
  #bitmaps = new Map(); // piece -> ImageBitmap, or null while it is read; the one that was drawn last is last
  #arrived;

  /** `arrived` is called when a piece can be drawn. */
  constructor(arrived) {
    this.#arrived = arrived;
  }

  /** Draw this result from now on, or none. */
  of(result) {
    if (result === this.#result) return;
    for (const bitmap of this.#bitmaps.values()) bitmap?.close();
    this.#bitmaps = new Map();
    this.#result = result;
  }

  /** Draw what is on a canvas of `width` and `height`, the result being at `left` and `top`, `zoom` times as large. */
  draw(context, { left, top, zoom, width, height }) {
    const result = this.#result;
    const x = (value) => Math.round(left + value * zoom);
    const y = (value) => Math.round(top + value * zoom);
    if (result.rows === 0) return;
    const [right, bottom] = [x(result.width), y(result.rows)];
    if (result.transparent) fillSquares(context, x(0), y(0), right, bottom);
    const [across, down] = [result.width / result.factor, result.rows / result.factor];
    context.drawImage(result.overview, 0, 0, across, down, x(0), y(0), right - x(0), bottom - y(0));
    if (zoom * result.factor <= 1) return; // the overview has as many pixels as the screen
    const finished = result.pieces.filter((it) => it.top < result.rows);
    const seen = finished.filter((it) => x(it.left + it.width) > 0 && x(it.left) < width && y(it.top + it.height) > 0 && y(it.top) < height);
    if (seen.length > MOST || result.factor === 1) return;
    for (const piece of seen) {
      const bitmap = this.#take(piece);
      if (!bitmap) continue;
      const [toX, toY] = [x(piece.left), y(piece.top)];
      const [across, down] = [x(piece.left + piece.width) - toX, y(piece.top + piece.height) - toY];
      if (result.transparent) fillSquares(context, toX, toY, toX + across, toY + down);
      context.drawImage(bitmap, toX, toY, across, down);
    }
  }

  #take(piece) {
    const bitmap = this.#bitmaps.get(piece);
    if (bitmap === undefined) this.#read(piece);
    else if (bitmap !== null) {
      this.#bitmaps.delete(piece);
      this.#bitmaps.set(piece, bitmap);
    }
    return bitmap;
  }

  async #read(piece) {
    const result = this.#result;
    this.#bitmaps.set(piece, null);
    for (const [old, bitmap] of this.#bitmaps) {
      if (this.#bitmaps.size <= MOST) break;
      if (bitmap === null) continue;
      bitmap.close();
      this.#bitmaps.delete(old);
    }
    let bitmap;
    try {
      bitmap = await result.bitmap(piece);
    } catch {
      return; // no memory, or given up meanwhile: the overview stands for it
    }
    if (result !== this.#result) return bitmap.close();
    this.#bitmaps.set(piece, bitmap);
    this.#arrived();
  }
}

let squares = null;

/** Fill a part of a canvas with the usual grey squares, which show through what is transparent. */
export function fillSquares(context, left, top, right, bottom) {
  if (squares === null) {
    squares = new OffscreenCanvas(16, 16);
    const pen = squares.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, 16, 16);
    pen.fillStyle = "#ccc";
    pen.fillRect(0, 0, 8, 8);
    pen.fillRect(8, 8, 8, 8);
  }
  context.fillStyle = context.createPattern(squares, "repeat");
  context.fillRect(left, top, right - left, bottom - top);
}
