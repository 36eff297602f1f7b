// PNG files from rows as they come: filter, deflate (by the browser), chunks with their sums.

const CHUNK = 1 << 20; // bytes of an IDAT chunk, about
const FOLDED = 1 << 24; // bytes of parts that become one blob, which a browser may move to disk

const SUMS = Uint32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = SUMS[(sum ^ byte) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

/** A chunk: its length, name, content and sum. */
export function chunk(name, content) {
  const bytes = new Uint8Array(content.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  for (let index = 0; index < 4; index++) bytes[4 + index] = name.charCodeAt(index);
  bytes.set(content, 8);
  view.setUint32(content.length + 8, crc(bytes.subarray(4, content.length + 8)));
  return bytes;
}

/**
 * Filter rows: for each, the one of Sub, Up and Paeth whose differences are smallest in sum (as the PNG standard
 * advises), after a byte that tells which.
 *
 * @param {Uint8Array} rows (height, stride), without alpha if `channels` is 3
 * @param {Uint8Array} before the row above them, of zeros at the top
 * @param {number} channels bytes of a pixel
 * @returns {Uint8Array} (height, 1 + stride)
 */
export function filtered(rows, before, channels) {
  const stride = before.length;
  const height = rows.length / stride;
  const out = new Uint8Array(height * (stride + 1));
  const [sub, up, paeth] = [new Uint8Array(stride), new Uint8Array(stride), new Uint8Array(stride)];
  for (let y = 0; y < height; y++) {
    const row = rows.subarray(y * stride, (y + 1) * stride);
    const above = y > 0 ? rows.subarray((y - 1) * stride, y * stride) : before;
    let [subSum, upSum, paethSum] = [0, 0, 0];
    for (let x = 0; x < stride; x++) {
      const value = row[x];
      const b = above[x];
      const a = x < channels ? 0 : row[x - channels];
      const c = x < channels ? 0 : above[x - channels];
      const [da, db] = [Math.abs(b - c), Math.abs(a - c)];
      const dc = Math.abs(a + b - 2 * c);
      const near = da <= db && da <= dc ? a : db <= dc ? b : c;
      sub[x] = value - a;
      up[x] = value - b;
      paeth[x] = value - near;
      subSum += Math.abs((sub[x] << 24) >> 24);
      upSum += Math.abs((up[x] << 24) >> 24);
      paethSum += Math.abs((paeth[x] << 24) >> 24);
    }
    const [kind, best] = paethSum < subSum && paethSum < upSum ? [4, paeth] : upSum < subSum ? [2, up] : [1, sub];
    const at = y * (stride + 1);
    out[at] = kind;
    out.set(best, at + 1);
  }
  return out;
}

/** A file that is being written: `add` rows of RGBA from top to bottom, then `finish`. */
export class PngWriter {
  #width;
  #channels;
  #before;
  #parts;
  #folded = [];
  #waiting = [];
  #stream = new CompressionStream("deflate");
  #writer = this.#stream.writable.getWriter();
  #drained;

  /** `transparent`: with an alpha channel; `extra`: chunks that go before the pixels, such as a profile. */
  constructor(width, height, transparent, extra = []) {
    this.#width = width;
    this.#channels = transparent ? 4 : 3;
    this.#before = new Uint8Array(this.#channels * width);
    const header = new Uint8Array(13);
    const view = new DataView(header.buffer);
    view.setUint32(0, width);
    view.setUint32(4, height);
    header.set([8, transparent ? 6 : 2, 0, 0, 0], 8);
    this.#parts = [Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a), chunk("IHDR", header), ...extra];
    this.#drained = this.#drain();
    this.#drained.catch(() => {}); // `add` or `finish` throws it
  }

  /** Add whole rows, RGBA. */
  async add(rgba) {
    const rows = this.#channels === 4 ? rgba : withoutAlpha(rgba);
    const data = filtered(rows, this.#before, this.#channels);
    this.#before = rows.slice(rows.length - this.#channels * this.#width);
    await Promise.race([this.#writer.write(data), this.#drained]);
  }

  /** Resolves to the file, a Blob. */
  async finish() {
    await Promise.all([this.#writer.close(), this.#drained]);
    this.#flush();
    this.#parts.push(chunk("IEND", new Uint8Array(0)));
    return new Blob([...this.#folded, ...this.#parts], { type: "image/png" });
  }

  async #drain() {
    const reader = this.#stream.readable.getReader();
    let length = 0;
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      this.#waiting.push(part.value);
      length += part.value.length;
      if (length >= CHUNK) {
        this.#flush();
        length = 0;
      }
    }
  }

  #flush() {
    const content = new Uint8Array(this.#waiting.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of this.#waiting) {
      content.set(part, at);
      at += part.length;
    }
    this.#waiting = [];
    if (content.length > 0) this.#parts.push(chunk("IDAT", content));
    if (this.#parts.reduce((sum, part) => sum + part.length, 0) < FOLDED) return;
    this.#folded.push(new Blob(this.#parts));
    this.#parts = [];
  }
}

function withoutAlpha(rgba) {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  return rgb;
}
