// What differs between a page, a worker and Node.

import { LkdnError } from "./errors.mjs";

const NODE =
  globalThis.process?.versions?.node !== undefined &&
  globalThis.document === undefined &&
  globalThis.WorkerGlobalScope === undefined;

const MOST_THREADS = 16; // more would mostly compute rows that others compute, too

/** The threads to use where nobody says how many. */
export async function usualThreads() {
  if (!canShare()) return 1;
  const cores = NODE ? (await import("node:os")).availableParallelism() : navigator.hardwareConcurrency;
  return Math.min(cores || 1, MOST_THREADS);
}

/** Whether threads may share memory: in a page, only where the server isolates it from other sites. */
export const canShare = () => NODE || globalThis.crossOriginIsolated === true;

/**
 * The content of a file beside this module.
 *
 * @param {URL} url
 * @param {AbortSignal} [signal]
 * @returns {Promise<Uint8Array>}
 */
export async function read(url, signal) {
  try {
    if (NODE && url.protocol === "file:") return await (await import("node:fs/promises")).readFile(url, { signal });
    const response = await fetch(url, { signal });
    if (!response.ok) throw new Error(`the server answers ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    signal?.throwIfAborted();
    throw new LkdnError("model", `${url} cannot be read: ${error.message}`);
  }
}

/**
 * A worker of the engine.
 *
 * @param {object} message the first one for it
 * @param {Transferable[]} transferred what it takes over
 * @param {(message: string) => void} failed called when the worker dies
 * @returns {Promise<{ terminate: () => void }>}
 */
export async function startWorker(message, transferred, failed) {
  const url = new URL("./engine-worker.mjs", import.meta.url);
  let worker;
  if (NODE) {
    const threads = await import("node:worker_threads");
    worker = new threads.Worker(url);
    worker.unref(); // only work under way keeps the program alive
    worker.on("error", (error) => failed(error.message));
  } else {
    worker = new Worker(url, { type: "module" });
    worker.onerror = (event) => failed(event.message ?? `${url} cannot be loaded`);
  }
  worker.postMessage(message, transferred);
  return worker;
}
