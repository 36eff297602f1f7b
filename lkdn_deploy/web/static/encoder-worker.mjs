// Encodes results apart from the page, which stays responsive. PNG is written row by row; JPEG and WebP need a canvas
// of the whole result, which is the only copy that is made of it.

import { PngWriter, chunk } from "./png-writer.mjs";

const LONGEST = { "image/jpeg": 65535, "image/webp": 16383 }; // sides, by the formats' definitions
const BAND = 256; // rows that are put together at a time

onmessage = async ({ data: { id, task, given } }) => {
  try {
    const value = await { encode, holds }[task](given, (fraction) => postMessage({ id, fraction }));
    postMessage({ id, value });
  } catch (error) {
    postMessage({ id, error: String(error?.message ?? error) });
  }
};

/** Whether a result of a size can be encoded as a type here. */
function holds({ width, height, type }) {
  if (type === "image/png") return true;
  if (Math.max(width, height) > LONGEST[type]) return false;
  let canvas;
  try {
    canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillRect(width - 1, height - 1, 1, 1);
    return context.getImageData(width - 1, height - 1, 1, 1).data[3] === 255;
  } catch {
    return false;
  } finally {
    if (canvas) canvas.width = canvas.height = 0;
  }
}

/** Encode pieces as a Blob. */
async function encode({ width, height, pieces, colours, transparent, type, quality }, report) {
  if (type !== "image/png") return byCanvas({ width, height, pieces, colours, type, quality }, report);
  const writer = new PngWriter(width, height, transparent, await profile(colours));
  for (const [row, bands] of rowsOf(pieces)) {
    for (let y = 0; y < row.height; y += BAND) {
      const rows = Math.min(BAND, row.height - y);
      await writer.add(await joined(bands, width, y, rows));
      report((row.top + y + rows) / height);
    }
  }
  return writer.finish();
}

/** Pieces side by side, by their first one, from top to bottom. */
function rowsOf(pieces) {
  const rows = new Map();
  for (const piece of pieces) {
    if (!rows.has(piece.top)) rows.set(piece.top, []);
    rows.get(piece.top).push(piece);
  }
  return [...rows.values()].map((row) => [row[0], row]);
}

async function joined(pieces, width, top, height) {
  const data = new Uint8Array(4 * width * height);
  await Promise.all(
    pieces.map(async (piece) => {
      const stride = 4 * piece.width;
      const part = new Uint8Array(await piece.blob.slice(stride * top, stride * (top + height)).arrayBuffer());
      for (let y = 0; y < height; y++) data.set(part.subarray(y * stride, (y + 1) * stride), 4 * (y * width + piece.left));
    }),
  );
  return data;
}

async function byCanvas({ width, height, pieces, colours, type, quality }, report) {
  const canvas = new OffscreenCanvas(width, height);
  try {
    const context = canvas.getContext("2d", { colorSpace: colours, willReadFrequently: true });
    for (const [index, piece] of pieces.entries()) {
      const data = new Uint8ClampedArray(await piece.blob.arrayBuffer());
      context.putImageData(new ImageData(data, piece.width, piece.height, { colorSpace: colours }), piece.left, piece.top);
      report((index + 1) / pieces.length);
    }
    return await canvas.convertToBlob({ type, quality }); // PNG where the browser cannot write the type
  } finally {
    canvas.width = canvas.height = 0;
  }
}

/** The chunks that mark colours other than sRGB, taken from a small picture that the browser writes. */
async function profile(colours) {
  if (colours === "srgb") return [chunk("sRGB", Uint8Array.of(0))];
  const canvas = new OffscreenCanvas(1, 1);
  canvas.getContext("2d", { colorSpace: colours }).fillRect(0, 0, 1, 1);
  const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer());
  const view = new DataView(bytes.buffer);
  const found = [chunk("cICP", Uint8Array.of(12, 13, 0, 1))]; // Display P3 in ITU-T H.273; where both are, it says the same
  for (let at = 8; at + 12 <= bytes.length; at += view.getUint32(at) + 12)
    if (String.fromCharCode(...bytes.subarray(at + 4, at + 8)) === "iCCP") found.push(bytes.slice(at, at + view.getUint32(at) + 12));
  return found;
}
