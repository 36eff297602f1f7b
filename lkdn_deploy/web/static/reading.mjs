// Picture files become pixels: upright, 8 bits, straight alpha, in sRGB or Display P3.

import { HEADER_BYTES, inspect } from "./headers.mjs";
import { megapixels, size } from "./words.mjs";

/** The largest picture that is taken: its pixels are in memory twice while they are read. */
export const MOST_PIXELS = 64e6;

/** A file that is no picture for this page; its message is fit to show. */
export class PictureError extends Error {}

/** Look at a file without decoding it; throws where it would be too large. */
export async function look(file) {
  if (file.size === 0) throw new PictureError("This file is empty.");
  const facts = await inspect(new Uint8Array(await blobBytes(file.slice(0, HEADER_BYTES))));
  if (facts.width !== null) checkSize(facts.width, facts.height ?? 1);
  return facts;
}

async function blobBytes(blob) {
  try {
    return await blob.arrayBuffer();
  } catch {
    throw new PictureError("This file cannot be read. Was it moved, or is it a folder?");
  }
}

function checkSize(width, height) {
  if (width * height <= MOST_PIXELS) return;
  const limit = `at most ${megapixels(MOST_PIXELS, 1)} megapixels fit into a browser's memory`;
  throw new PictureError(`This picture is too large: ${size(width, height)} pixels, ${limit}. Crop it, or use lkdn-upscale.`);
}

/** Decode a file as it is shown: upright, first picture. The caller closes the bitmap. */
export async function decode(file, facts) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { premultiplyAlpha: facts.alpha ? "none" : "default" });
  } catch {
    const what = facts.format === "" ? "This is no picture that your browser can read." : `This ${facts.format} file is damaged, or of a kind that your browser cannot read.`;
    throw new PictureError(what);
  }
  try {
    checkSize(bitmap.width, bitmap.height);
  } catch (error) {
    bitmap.close();
    throw error;
  }
  return bitmap;
}

/**
 * Take the pixels of a bitmap.
 *
 * @returns {{ picture: ImageData, colours: "srgb" | "display-p3", notes: string[] }} and remarks for the user
 */
export function pixels(bitmap, facts) {
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  // A canvas multiplies colours by their alpha; with 16 bits per value, dividing gives them back exactly.
  const settings = { willReadFrequently: true, ...(facts.alpha ? { colorType: "float16" } : {}) };
  const wide = facts.colours === "srgb" ? "srgb" : "display-p3";
  const context = canvas.getContext("2d", { colorSpace: wide, ...settings });
  if (context === null) throw new PictureError("Your browser has no memory left for this picture.");
  context.drawImage(bitmap, 0, 0);
  const colours = context.getContextAttributes?.().colorSpace ?? "srgb";
  let picture;
  try {
    picture = context.getImageData(0, 0, width, height, colours === "srgb" ? {} : { colorSpace: colours });
  } catch {
    throw new PictureError("Your browser has no memory left for this picture.");
  } finally {
    canvas.width = canvas.height = 0; // frees its memory now, not at the next garbage collection
  }
  return { picture, colours, notes: remarks(facts, colours) };
}

function remarks(facts, colours) {
  const notes = [];
  if (facts.bits > 8) notes.push(`The file has ${facts.bits} bits per colour; the result has 8.`);
  if (facts.animated) notes.push("The file is an animation; its first picture is taken.");
  const profile = facts.profile === "" ? "The colour profile" : `The colour profile “${facts.profile.slice(0, 60)}”`;
  if (facts.colours === "p3" && colours === "display-p3") notes.push("Colours in Display P3 are kept.");
  else if (facts.colours !== "srgb") notes.push(`${profile} is converted to ${colours === "srgb" ? "sRGB" : "Display P3"}.`);
  return notes;
}

/** Whether any pixel of a picture is transparent. */
export function isTransparent(picture) {
  const values = new Uint32Array(picture.data.buffer, picture.data.byteOffset, picture.data.length / 4);
  for (const value of values) if (value >>> 24 !== 255) return true; // little endian, as WebAssembly is
  return false;
}
