// Pictures as programs give them.

import { LkdnError } from "./errors.mjs";

/** Refuse what is no picture. */
export function checkPicture(picture) {
  const refuse = (got) => {
    throw new LkdnError(
      "input",
      `A picture is { data, width, height } with 4 * width * height bytes of RGBA; got ${got}.`,
    );
  };
  if (picture === null || typeof picture !== "object") refuse(String(picture));
  const { data, width, height } = picture;
  for (const side of [width, height]) if (!Number.isInteger(side) || side < 1) refuse(`a size of ${width}x${height}`);
  if (!(data instanceof Uint8ClampedArray || data instanceof Uint8Array))
    refuse(`data of type ${data?.constructor?.name ?? typeof data}`);
  if (data.length !== 4 * width * height) refuse(`${data.length} bytes for ${width}x${height} pixels`);
}

/**
 * A picture with its edge repeated on all sides up to a smallest size, as imaging/bands.py does it.
 *
 * @returns {{ source: object, inner: object }} the larger picture, and the place of the picture itself in it
 */
export function padded(picture, smallest) {
  const { data, width, height } = picture;
  const down = Math.max(smallest - height, 0);
  const across = Math.max(smallest - width, 0);
  const inner = { top: down - Math.floor(down / 2), left: across - Math.floor(across / 2), width, height };
  if (down + across === 0) return { source: picture, inner };
  const source = {
    width: width + across,
    height: height + down,
    data: new Uint8Array(4 * (width + across) * (height + down)),
  };
  const inside = (at, length) => Math.min(Math.max(at, 0), length - 1);
  for (let y = 0; y < source.height; y++)
    for (let x = 0; x < source.width; x++) {
      const from = 4 * (inside(y - inner.top, height) * width + inside(x - inner.left, width));
      source.data.set(data.subarray(from, from + 4), 4 * (y * source.width + x));
    }
  return { source, inner };
}
