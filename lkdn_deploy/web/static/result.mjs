// A result in pieces that lie in blobs, which browsers move to disk when they are many; only what is looked at or
// encoded is in memory. An overview serves for small views.

export const PIECE = 1024;
const OVERVIEW_SIDE = 2048;

export class Result {
  /** Nothing of it yet. Sizes in pixels; `colours` is "srgb" or "display-p3". */
  constructor(width, height, colours, transparent) {
    Object.assign(this, { width, height, colours, transparent });
    this.pieces = [];
    this.rows = 0; // that are finished
    this.factor = 1; // pixels of the result in one of the overview, along each side
    while (Math.max(width, height) > OVERVIEW_SIDE * this.factor) this.factor *= 2;
    this.overview = new OffscreenCanvas(Math.ceil(width / this.factor), Math.ceil(height / this.factor));
    this.overviewContext = this.overview.getContext("2d", { colorSpace: colours });
  }

  /** Bytes in its pieces. */
  get bytes() {
    return this.pieces.length > 0 ? 4 * this.width * this.height : 0;
  }

  /** Add a strip, `{ top, width, height, data }` of RGBA; from top to bottom. */
  async add(strip) {
    for (let y = 0; y < strip.height; y += PIECE)
      for (let x = 0; x < strip.width; x += PIECE) {
        const width = Math.min(PIECE, strip.width - x);
        const height = Math.min(PIECE, strip.height - y);
        const data = new Uint8ClampedArray(4 * width * height);
        for (let row = 0; row < height; row++) {
          const from = 4 * ((y + row) * strip.width + x);
          data.set(strip.data.subarray(from, from + 4 * width), 4 * row * width);
        }
        const piece = { top: strip.top + y, left: x, width, height, blob: new Blob([data]) };
        this.pieces.push(piece);
        await this.#show(piece, data);
      }
    this.rows = strip.top + strip.height;
  }

  async #show({ top, left, width, height }, data) {
    const place = (value) => Math.round(value / this.factor);
    const [x, y] = [place(left), place(top)];
    const [across, down] = [Math.max(place(left + width) - x, 1), Math.max(place(top + height) - y, 1)];
    const options = this.factor === 1 ? {} : { resizeWidth: across, resizeHeight: down, resizeQuality: "medium" };
    const bitmap = await createImageBitmap(new ImageData(data, width, height, { colorSpace: this.colours }), options);
    this.overviewContext.drawImage(bitmap, x, y);
    bitmap.close();
  }

  /** One piece as a bitmap, which the caller closes. */
  async bitmap({ blob, width, height }) {
    const data = new Uint8ClampedArray(await blob.arrayBuffer());
    return createImageBitmap(new ImageData(data, width, height, { colorSpace: this.colours }));
  }

  /** Give up the pieces; the overview stays. */
  forget() {
    this.pieces = [];
  }
}
