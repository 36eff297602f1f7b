// Upscaling of pictures in a page, a worker or Node; lkdn.d.mts documents what is exported.

import { Crew } from "./crew.mjs";
import { fixedBytes, tileCost } from "./engine.mjs";
import { LkdnError } from "./errors.mjs";
import { canShare, read, usualThreads } from "./host.mjs";
import { checkPicture, padded } from "./pictures.mjs";
import { FilledColour } from "./alpha.mjs";
import { chooseWindow, planAxis, smallestWindow } from "./tiles.mjs";

export { LkdnError };

const FORMAT = 2;
const USUAL_MEMORY = 256 << 20;
const LEAST_MEMORY = 1 << 20;
const MOST_MEMORY = 2 ** 32 - 2 ** 26;
const MOST_THREADS = 64;
const LEAST_SIDE = 64; // of a window that is cut for want of memory

// A module with one function, which makes a vector: engines without vectors find it invalid.
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11];
// The same with f32x4.relaxed_madd of the function's argument.
const RELAXED = [
  [0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 123, 1, 123, 3, 2, 1, 0],
  [10, 13, 1, 11, 0, 32, 0, 32, 0, 32, 0, 253, 133, 2, 11],
].flat();

const accepts = (code) => WebAssembly.validate(Uint8Array.from(code));

let catalogue;

async function readCatalogue(signal) {
  const url = new URL("./models.json", import.meta.url);
  const text = new TextDecoder().decode(await read(url, signal));
  let found;
  try {
    found = JSON.parse(text);
  } catch {
    throw new LkdnError("model", `${url} is not a list of models.`);
  }
  if (found?.format !== FORMAT)
    throw new LkdnError(
      "model",
      `${url} is of format ${found?.format}, this version reads ${FORMAT}: export it again.`,
    );
  return found;
}

async function listed(signal) {
  catalogue ??= await readCatalogue(signal);
  return catalogue;
}

export async function models() {
  const { models: all, default: usual } = await listed();
  return all.map(({ name, model, scale, halo, bytes }) => ({
    name,
    model,
    scale,
    halo,
    bytes,
    default: name === usual,
  }));
}

export async function load(name, options = {}) {
  const { signal, memory = USUAL_MEMORY } = options;
  signal?.throwIfAborted();
  if (typeof WebAssembly === "undefined" || !accepts(SIMD))
    throw new LkdnError(
      "unsupported",
      "This browser has no WebAssembly SIMD, which the network needs; a newer one has it.",
    );
  const threads = options.threads ?? (await usualThreads());
  if (!Number.isInteger(threads) || threads < 1 || threads > MOST_THREADS)
    throw new LkdnError("input", `threads must be a whole number from 1 to ${MOST_THREADS}, got ${threads}.`);
  if (!(memory >= LEAST_MEMORY && memory <= MOST_MEMORY))
    throw new LkdnError(
      "input",
      `memory must be a number of bytes from ${LEAST_MEMORY} to ${MOST_MEMORY}, got ${memory}.`,
    );
  if (threads > 1 && !canShare()) {
    const hint = "the server must send the headers Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy";
    throw new LkdnError("isolation", `Several threads need a page that is isolated from other sites: ${hint}.`);
  }
  const { models: all, default: usual } = await listed(signal);
  const entry = all.find((it) => it.name === (name ?? usual));
  if (entry === undefined) {
    const names = all.map((it) => it.name).join(", ");
    throw new LkdnError("model", `There is no model ${name} here, but ${names}.`);
  }
  const url = (file) => new URL(file, import.meta.url);
  const { alone, threads: shared } = accepts(RELAXED) ? entry.code.relaxed : entry.code.plain;
  const code = url(threads > 1 ? shared : alone);
  const [bytes, weights] = await Promise.all([read(code, signal), read(url(entry.weights), signal)]);
  if (weights.length !== entry.weightsBytes)
    throw new LkdnError(
      "model",
      `${url(entry.weights)} has ${weights.length} bytes, ${entry.weightsBytes} were expected.`,
    );
  let module;
  try {
    module = await WebAssembly.compile(bytes);
  } catch (error) {
    throw new LkdnError("model", `${code} is not a module of this engine: ${error.message}`);
  }
  const upscaler = new Upscaler(entry, module, weights, threads, memory);
  await upscaler.start(signal);
  return asFunction(upscaler);
}

/** The function that `load` gives. */
function asFunction(upscaler) {
  const { name, model, scale } = upscaler.entry;
  const upscale = (picture, options) => upscaler.whole(picture, options);
  const properties = {
    name,
    model,
    scale,
    threads: upscaler.threads,
    strips: (picture, options) => upscaler.strips(picture, options),
    close: () => upscaler.close(),
  };
  for (const [key, value] of Object.entries(properties))
    Object.defineProperty(upscale, key, { value, enumerable: true });
  return upscale;
}

class Upscaler {
  #given;
  #memory;
  #crew = null;
  #turn = Promise.resolve();
  #closed = false;

  constructor(entry, module, weights, threads, memory) {
    const network = entry.network;
    const least = Math.max(smallestWindow(entry.halo), LEAST_SIDE, entry.smallest);
    const largest = Math.max(memory, tileCost(network, threads, true)(least, least));
    const most = fixedBytes(network, weights.length, threads) + largest;
    this.entry = entry;
    this.threads = threads;
    this.#memory = memory;
    this.#given = { module, network, weights, threads, most };
  }

  /** Start the workers, unless they are there; resolves when they are ready. */
  async start(signal) {
    this.#checkOpen();
    if (this.#crew === null || this.#crew.stopped) this.#crew = new Crew(this.#given);
    const crew = this.#crew;
    await cancellable(
      signal,
      (reason) => crew.stop(reason),
      () => crew.ready,
    );
    return crew;
  }

  close() {
    this.#closed = true;
    this.#crew?.stop(closedError());
    this.#crew = null;
    this.#given = null;
  }

  #checkOpen() {
    if (this.#closed) throw closedError();
  }

  async whole(picture, options = {}) {
    checkPicture(picture);
    const width = this.entry.scale * picture.width;
    const height = this.entry.scale * picture.height;
    let data;
    try {
      data = new Uint8ClampedArray(4 * width * height);
    } catch {
      throw new LkdnError("memory", `There is no memory for a result of ${width}x${height} pixels; take it by strips.`);
    }
    const strips = this.strips(picture, options, data);
    while (!(await strips.next()).done); // they are parts of `data`
    return globalThis.ImageData === undefined ? { data, width, height } : new ImageData(data, width, height);
  }

  async *strips(picture, { onProgress = () => {}, signal } = {}, into = undefined) {
    checkPicture(picture);
    const leave = await this.#enter(signal);
    try {
      const crew = await this.start(signal);
      let finished = false;
      const stop = () => crew.stop(signal.reason);
      signal?.addEventListener("abort", stop);
      try {
        yield* this.#compute(crew, picture, onProgress, signal, into);
        finished = true;
      } finally {
        signal?.removeEventListener("abort", stop);
        if (!finished) crew.stop(new LkdnError("failed", "The picture was given up."));
      }
    } finally {
      leave();
    }
  }

  /** Wait for the pictures before; resolves to the function that lets the next one begin. */
  async #enter(signal) {
    const before = this.#turn;
    let leave;
    this.#turn = new Promise((resolve) => (leave = resolve));
    try {
      await cancellable(
        signal,
        () => {},
        () => before,
      );
      this.#checkOpen();
    } catch (error) {
      before.then(leave);
      throw error;
    }
    return leave;
  }

  async *#compute(crew, picture, onProgress, signal, into) {
    const { scale } = this.entry;
    const { source, inner } = padded(picture, this.entry.smallest);
    const colour = new FilledColour(source);
    const passes = colour.constantAlpha === null ? 2 : 1;
    const { rows, columns } = this.#plan(source, passes > 1);
    const total = passes * rows.length * columns.length;
    const jobs = this.#jobs(source, colour, rows, columns);
    const width = scale * inner.width;
    const left = scale * inner.left;
    let number = 0;
    onProgress(0);
    const submit = () => {
      const { value: step } = jobs.next();
      if (step === undefined) return undefined;
      const index = number++;
      const result = crew.run(step.job, (fraction) => onProgress((index + fraction) / total));
      result.catch(() => {}); // it is awaited later, or given up
      return { ...step, result };
    };

    let following = submit();
    for (const span of rows) {
      const top = scale * Math.max(span.keepStart, inner.top);
      const bottom = scale * Math.min(span.keepStop, inner.top + inner.height);
      const first = top - scale * inner.top;
      const size = 4 * width * Math.max(bottom - top, 0);
      const data = into ? into.subarray(4 * width * first, 4 * width * first + size) : new Uint8ClampedArray(size);
      for (let count = 0; count < passes * columns.length; count++) {
        const current = following;
        following = submit();
        const { alpha, area } = current;
        const place = { top: top - area.top, bottom: bottom - area.top, left: left - area.left, width };
        copy(await current.result, area, alpha, data, place);
      }
      signal?.throwIfAborted();
      if (size > 0) yield { top: first, width, height: bottom - top, data };
    }
  }

  #plan({ height, width }, withAlpha) {
    const { halo, smallest, network } = this.entry;
    const cost = tileCost(network, this.threads, withAlpha);
    const least = Math.max(LEAST_SIDE, smallest);
    const [rows, columns] = chooseWindow(height, width, halo, this.#memory, least, cost);
    const { windowStep } = network;
    return { rows: planAxis(height, rows, halo, windowStep), columns: planAxis(width, columns, halo, windowStep) };
  }

  /** The runs of the network, row of tiles by row of tiles: first their colours, then their alpha if it varies. */
  *#jobs(source, colour, rows, columns) {
    const { scale } = this.entry;
    for (const span of rows)
      for (const alpha of colour.constantAlpha === null ? [255, null] : [colour.constantAlpha]) {
        const read =
          alpha === null
            ? source.data.subarray(4 * source.width * span.start, 4 * source.width * span.stop)
            : colour.read(span.start, span.stop);
        for (const column of columns) {
          const height = span.stop - span.start;
          const width = column.stop - column.start;
          const rgba = new Uint8Array(4 * height * width);
          for (let y = 0; y < height; y++) {
            const start = 4 * (y * source.width + column.start);
            rgba.set(read.subarray(start, start + 4 * width), 4 * y * width);
          }
          const kept = [
            span.keepStart - span.start,
            span.keepStop - span.start,
            column.keepStart - column.start,
            column.keepStop - column.start,
          ];
          const area = {
            top: scale * span.keepStart,
            left: scale * column.keepStart,
            width: scale * (kept[3] - kept[2]),
          };
          yield { job: { rgba, height, width, kept: kept.map((it) => scale * it), alpha }, alpha, area };
        }
      }
  }
}

/**
 * Copy the part of a tile's result that is in a strip.
 *
 * @param {Uint8ClampedArray} result (rows, columns, 4), or (rows, columns) of alpha
 * @param {object} area `width`: columns of the result
 * @param {number | null} alpha null if the result is of alpha
 * @param {Uint8ClampedArray} strip RGBA
 * @param {object} place `top` and `bottom`: first and last (exclusive) row of the strip, counted from the result's;
 *   `left`: its first column, likewise; `width`: its columns
 */
function copy(result, area, alpha, strip, { top, bottom, left, width }) {
  const first = Math.max(left, 0);
  const last = Math.min(left + width, area.width);
  if (first >= last) return;
  for (let y = top; y < bottom; y++) {
    const from = y * area.width;
    const to = 4 * ((y - top) * width + first - left);
    if (alpha !== null) strip.set(result.subarray(4 * (from + first), 4 * (from + last)), to);
    else for (let x = first; x < last; x++) strip[to + 4 * (x - first) + 3] = result[from + x];
  }
}

const closedError = () => new LkdnError("closed", "This network is closed; load it again.");

/** Wait for what `wait` gives, unless the signal aborts first: then call `stop` with its reason, and throw that. */
async function cancellable(signal, stop, wait) {
  signal?.throwIfAborted();
  let abort;
  const aborted = new Promise((_, reject) => {
    abort = () => {
      stop(signal.reason);
      reject(signal.reason);
    };
  });
  signal?.addEventListener("abort", abort);
  try {
    return await Promise.race([wait(), aborted]);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}
