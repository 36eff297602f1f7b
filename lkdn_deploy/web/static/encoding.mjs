// The page's side of the encoder.

export const TYPES = { png: "image/png", jpeg: "image/jpeg", webp: "image/webp" };
const QUALITY = 0.93;

let worker = null;
let count = 0;
const open = new Map();

function ask(task, given, onProgress = () => {}) {
  if (worker === null) {
    worker = new Worker(new URL("./encoder-worker.mjs", import.meta.url), { type: "module" });
    worker.onmessage = ({ data: { id, fraction, value, error } }) => {
      const { resolve, reject, report } = open.get(id);
      if (fraction !== undefined) return report(fraction);
      open.delete(id);
      return error === undefined ? resolve(value) : reject(new Error(error));
    };
    worker.onerror = () => giveUp("The result could not be encoded: the browser ended the work, as a rule for want of memory.");
  }
  const id = count++;
  return new Promise((resolve, reject) => {
    open.set(id, { resolve, reject, report: onProgress });
    worker.postMessage({ id, task, given });
  });
}

function giveUp(message) {
  worker.terminate();
  worker = null;
  for (const { reject } of open.values()) reject(new Error(message));
  open.clear();
}

const SMALL = 16e6; // pixels that every browser's canvas holds
const COST = 9; // bytes of a pixel on a canvas that is encoded: browsers make a copy, and the file comes to it
const SHARE = 0.25; // of the device's memory that one page may take for it
const MEMORY = (navigator.deviceMemory ?? 4) * 2 ** 30;

/**
 * Choose a type that can hold a result: the one wanted, or PNG with the reason.
 *
 * @returns {Promise<{ type: string, reason: string }>} `reason` is empty where it is the wanted one
 */
export async function typeFor(format, { width, height, transparent }) {
  const type = TYPES[format];
  const name = { png: "PNG", jpeg: "JPEG", webp: "WebP" }[format];
  if (type === "image/jpeg" && transparent) return { type: TYPES.png, reason: "JPEG has no transparency: saved as PNG." };
  const small = width * height <= SMALL && Math.max(width, height) <= 16383;
  const affordable = width * height * COST <= SHARE * MEMORY || type === TYPES.png;
  if (small || (affordable && (await ask("holds", { width, height, type })))) return { type, reason: "" };
  return { type: TYPES.png, reason: `${width} × ${height} is too large for ${name} in this browser: saved as PNG.` };
}

/** Encode a result as a Blob. */
export function encode(result, type, onProgress) {
  const { width, height, pieces, colours, transparent } = result;
  return ask("encode", { width, height, pieces, colours, transparent, type, quality: QUALITY }, onProgress);
}
