// Works on entries one after the other: reads pictures, computes results, encodes them.

import { encode, typeFor } from "./encoding.mjs";
import { PictureError, decode, isTransparent, look, pixels } from "./reading.mjs";
import { Result } from "./result.mjs";

const KEPT = 2 ** 30; // bytes of results whose pixels are kept; of older ones, only the encoded file and an overview
const SETTLED = 0.02; // the fraction from which on the time left can be told

const DAMAGED_MEMORY = "Your browser ran out of memory. Remove finished pictures from the list, and try again.";

/** A message that can be shown, whatever went wrong. */
function messageOf(error) {
  if (error instanceof PictureError || error?.name === "LkdnError" || typeof error?.code === "string") return error.message;
  if (error instanceof RangeError || error?.name === "NotReadableError") return DAMAGED_MEMORY;
  return `Something went wrong: ${error?.message ?? error}`;
}

/** Look at an entry's file and draw it small. The entry is then waiting, or failed. */
export async function prepare(entry) {
  try {
    entry.facts = await look(entry.file);
    const bitmap = await decode(entry.file, entry.facts);
    entry.size = { width: bitmap.width, height: bitmap.height };
    entry.draw(bitmap);
    bitmap.close();
    entry.state = "waiting";
  } catch (error) {
    fail(entry, error);
  }
}

/** Say before the work whether the format that is wanted cannot hold the result. */
export async function noteFormat(entry, format, model) {
  const large = { ...entry.sizeAt(model.scale), transparent: entry.result?.transparent ?? false };
  entry.formatNote = (await typeFor(format, large)).reason;
}

function fail(entry, error) {
  entry.state = "failed";
  entry.error = messageOf(error);
  entry.result = null;
}

/**
 * Compute an entry's result.
 *
 * @param {Entry} entry its `abort` can end the work
 * @param {object} model of `models()`
 * @param {(name: string) => Promise<Function>} get gives the network by name
 * @param {() => void} changed called when there is something new to show
 */
export async function enlarge(entry, model, get, changed) {
  const { signal } = entry.abort;
  Object.assign(entry, { state: "working", fraction: 0, secondsLeft: null, model, result: null, packed: null, savedBytes: 0 });
  changed();
  try {
    const upscale = await get(model.name);
    signal.throwIfAborted();
    const bitmap = await decode(entry.file, entry.facts);
    const read = pixels(bitmap, entry.facts);
    bitmap.close();
    entry.notes = read.notes;
    const { width, height } = entry.sizeAt(model.scale);
    const result = new Result(width, height, read.colours, entry.facts.alpha && isTransparent(read.picture));
    entry.result = result;
    entry.threads = upscale.threads;
    const started = performance.now();
    const onProgress = (fraction) => {
      const seconds = (performance.now() - started) / 1000;
      entry.fraction = fraction;
      if (fraction > SETTLED) entry.secondsLeft = (seconds * (1 - fraction)) / fraction;
      changed();
    };
    for await (const strip of upscale.strips(read.picture, { onProgress, signal })) {
      await result.add(strip);
      signal.throwIfAborted();
      changed();
    }
    entry.seconds = (performance.now() - started) / 1000;
    entry.state = "done";
  } catch (error) {
    if (signal.aborted) Object.assign(entry, { state: "cancelled", result: null });
    else fail(entry, error);
  } finally {
    entry.abort = null;
    changed();
  }
}

/**
 * Encode an entry's result, or take the file that it was packed into.
 *
 * @returns {Promise<{ blob: Blob, reason: string }>} `reason`: why it is not of the format that was wanted, or empty
 */
export async function encoded(entry, format, changed) {
  if (entry.packed !== null) return { blob: entry.packed, reason: "" };
  const { type, reason } = await typeFor(format, entry.result);
  entry.saving = 0;
  changed();
  try {
    const blob = await encode(entry.result, type, (fraction) => {
      entry.saving = fraction;
      changed();
    });
    const other = blob.type === type ? "" : "This browser cannot write that format: saved as PNG.";
    return { blob, reason: reason || other };
  } finally {
    entry.saving = null;
    changed();
  }
}

/** Give up pixels of the oldest results where all of them take too much memory; their files and overviews stay. */
export async function pack(entries, format, changed) {
  const kept = () => entries.reduce((sum, entry) => sum + (entry.result?.bytes ?? 0), 0);
  for (const entry of entries) {
    if (kept() <= KEPT) return;
    if (entry.state !== "done" || !entry.result?.bytes || entry.saving !== null || entry === entries.at(-1)) continue;
    try {
      const { blob } = await encoded(entry, format, changed);
      entry.packed = blob;
      entry.notes = [...entry.notes, "To save memory, it is encoded already, and shown in a smaller size."];
      entry.result.forget();
      changed();
    } catch {
      return; // it can still be saved by hand, with the reason
    }
  }
}
