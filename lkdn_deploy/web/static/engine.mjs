// A network's module with its memory, and the tables that tell the module where everything lies in it.
// This is to WebAssembly what lkdn_deploy/backends/native/executor.py is to this machine's processor; the module's
// functions are described in lkdn_deploy/backends/native/codegen/ (stage.py, threads.py, output.py).

import { LkdnError } from "./errors.mjs";

const PAGE = 65536;
const LINE = 64; // bytes of a cache line, to which everything is aligned
const FLOAT = 4;
const INTEGER = 8; // tables are of integers of 64 bits, which are addresses, sizes and numbers below 2^32 here
const STATE = 24; // integers of the state that threads share, of which one is an address:
const YIELD = 16;
const OUTPUT_FACTS = 11;
const STAGE_FACTS = 6;
const BAND_FACTS = 4;
const COLOURS = 3;

const aligned = (bytes) => Math.ceil(bytes / LINE) * LINE;
const sum = (numbers) => numbers.reduce((total, it) => total + it, 0);

/** Where everything lies for windows of one size; `bytes` is what they take beside code, stacks and weights. */
class Layout {
  /**
   * @param {object} network the description of a network
   * @param {number} height of the window
   * @param {number} width of the window
   * @param {number} threads that compute a band each
   * @param {number} start address of the first byte, a multiple of a cache line
   */
  constructor(network, height, width, threads, start) {
    const { lanes, block, rowUnit, scale } = network;
    this.vectors = Math.ceil(width / (lanes * rowUnit)) * rowUnit;
    this.blocks = this.vectors / block;
    const columns = this.vectors * lanes;
    this.rowBytes = new Map(
      Object.entries(network.rows).map(([value, row]) => {
        const vectors = this.blocks * row.each + row.margin;
        return [Number(value), FLOAT * row.unit * (row.channelMajor ? vectors | 1 : vectors / row.each)];
      }),
    );
    this.bands = Math.min(threads, height);
    this.line = scale * columns; // floats of a line of the result
    const bufferBytes = (segment) => sum(segment.buffers.map(([value, rows]) => rows * this.rowBytes.get(value)));
    this.lineBuffers = aligned(Math.max(0, ...network.segments.map(bufferBytes)));
    const outputLines = FLOAT * (COLOURS * scale * this.line + lanes); // vectors reach beyond the last column
    const slots = [];
    for (const [value, slot] of Object.entries(network.slots))
      slots[slot] = Math.max(slots[slot] ?? 0, height * this.rowBytes.get(Number(value)));

    let end = start;
    const place = (bytes) => {
      const address = end;
      end += aligned(bytes);
      return address;
    };
    this.zeros = place((this.zerosBytes = Math.max(FLOAT, ...this.rowBytes.values())));
    this.bandMemory = Array.from({ length: this.bands }, () => place(this.lineBuffers + outputLines));
    this.slots = slots.map(place);
    this.input = place(FLOAT * (COLOURS * height * width + columns - width));
    const stages = sum(network.segments.map(({ stages }) => sum(stages.map((it) => (it.output ? 2 : 1)))));
    // In fixed point, a stage has one operand more, and records of two integers.
    const integers = ({ values, watched }) => 3 * values.length + (watched.length ? 3 + 2 * watched.length : 0);
    const operands = sum(network.segments.map(({ stages }) => sum(stages.map(integers))));
    this.inside = place(FLOAT * lanes * (this.vectors + this.blocks));
    const each = STAGE_FACTS * stages + operands + BAND_FACTS * network.segments.length + OUTPUT_FACTS;
    this.tables = place(INTEGER * (STATE + LINE / INTEGER + 6 + 1 + this.bands * each));
    this.bytes = end - start;
  }
}

/** The bytes of a result, clipped and rounded, or as floats. */
const resultBytes = (network, height, width, floats) =>
  aligned((floats ? FLOAT : 1) * COLOURS * network.scale ** 2 * height * width);

/**
 * The bytes that a window with its result takes at most, as a function of its rows and columns.
 *
 * @param {object} network the description of a network
 * @param {number} threads that compute it
 * @param {boolean} floats whether the result is of floats, as that of alpha is
 */
export function tileCost(network, threads, floats) {
  const widths = new Map(); // what a window takes in any case, and for each row
  return (rows, columns) => {
    if (!widths.has(columns)) {
      const [low, high] = [1, 1 + LINE].map((more) => {
        const height = threads + more;
        return new Layout(network, height, columns, threads, 0).bytes + resultBytes(network, height, columns, floats);
      });
      const row = (high - low) / LINE; // exactly, as so many rows have whole cache lines
      widths.set(columns, [low - (threads + 1) * row + LINE * (2 + Object.keys(network.slots).length), row]);
    }
    const [constant, row] = widths.get(columns);
    return constant + rows * row;
  };
}

/** The bytes of what does not depend on the window. */
export function fixedBytes(network, weights, threads) {
  return LINE + threads * aligned(network.stack) + aligned(weights);
}

/** A memory for an engine, of as many bytes at first; it grows to `most`. */
export function newMemory(bytes, most, shared) {
  const pages = (count) => Math.min(Math.ceil(count / PAGE), PAGE);
  try {
    return new WebAssembly.Memory({ initial: pages(bytes), maximum: pages(Math.max(bytes, most)), shared });
  } catch (error) {
    throw new LkdnError("memory", `There is no memory of ${most >> 20} MiB for the network: ${error.message}`);
  }
}

/** An instance of the module for one of the threads; its functions. */
export async function instantiate(module, memory, network, thread) {
  const functions = [...network.functions, "rest"]; // the last one only where threads share the memory
  const table = new WebAssembly.Table({ element: "anyfunc", initial: functions.length + 1 });
  const stackEnd = LINE + (thread + 1) * aligned(network.stack);
  const { exports } = await WebAssembly.instantiate(module, {
    env: {
      __linear_memory: memory,
      __stack_pointer: new WebAssembly.Global({ value: "i32", mutable: true }, stackEnd),
      __indirect_function_table: table,
    },
  });
  functions.forEach((name, number) => table.set(number + 1, exports[name] ?? null)); // 0: the address of no function
  return exports;
}

/** A network that computes windows, together with `others`: each follows for another thread. */
export class Engine {
  #network;
  #memory;
  #threads;
  #exports;
  #weights;
  #arena;
  #layout;
  #size;
  #records = [];

  /**
   * @param {object} network its description
   * @param {WebAssembly.Memory} memory with room for what `fixedBytes` tells
   * @param {object} exports the first thread's instance
   * @param {number} threads the number of threads
   * @param {Uint8Array} weights its weights
   */
  constructor(network, memory, exports, threads, weights) {
    this.#network = network;
    this.#memory = memory;
    this.#exports = exports;
    this.#threads = threads;
    this.#weights = LINE + threads * aligned(network.stack);
    this.#arena = this.#weights + aligned(weights.length);
    new Uint8Array(memory.buffer).set(weights, this.#weights);
  }

  /**
   * Upscale a window.
   *
   * @param {object} job `rgba` of the window, (height, width, 4); `height`; `width`; `kept`: the first and last
   *   (exclusive) row and column of the result that are asked for; `alpha`: that of the result, or null for the
   *   result of the window's alpha
   * @param {(tables: object, number: number) => void} start called for each other thread with what it follows
   * @param {(fraction: number) => void} progress called after each part of the work
   * @returns {Uint8ClampedArray} (rows, columns, 4) of the colours with `alpha`, or (rows, columns) of alpha
   */
  run({ rgba, height, width, kept, alpha }, start, progress) {
    const floats = alpha === null;
    const result = this.compute({ rgba, height, width, kept, ofAlpha: floats, floats }, start, progress);
    return floats ? luma(result) : withAlpha(result, alpha);
  }

  /**
   * Upscale a window of one kind of values.
   *
   * @param {object} job as `run` takes it, but `ofAlpha`: whether the network gets alpha in place of colours, and
   *   `floats`: whether the result is not clipped and rounded
   * @param {(tables: object, number: number) => void} start as `run` takes it
   * @param {(fraction: number) => void} progress as `run` takes it
   * @returns {Float32Array | Uint8Array} (3, rows, columns) in 0..1, or (rows, columns, 3); the next run overwrites it
   */
  compute({ rgba, height, width, kept, ofAlpha, floats }, start, progress) {
    const [top, bottom, left, right] = kept;
    const rows = bottom - top;
    const columns = right - left;
    const layout = this.#layoutFor(height, width, floats);
    this.#load(rgba, height, width, ofAlpha);
    const target = this.#arena + layout.bytes;
    const tables = this.#tables(height, width, { top, bottom, left, columns, target, rows, floats });
    tables.bands.slice(1).forEach((bands, number) => start({ ...tables, bands }, number));
    const { segments, state, geometry } = tables;
    const others = BigInt(layout.bands - 1);
    tables.lead.forEach(([stages, ...counts], number) => {
      const [count, first, last] = counts.map(BigInt);
      this.#exports.lead(state, BigInt(number), others, stages, count, geometry, first, last);
      progress((number + 1) / segments);
    });
    const buffer = this.#memory.buffer;
    if (new Uint32Array(buffer)[tables.damage / 4]) {
      const message = "The network gave values that are not finite: its weights are damaged.";
      throw new LkdnError("failed", message);
    }
    return new (floats ? Float32Array : Uint8Array)(buffer, target, COLOURS * rows * columns);
  }

  /** The lowest and the highest number of each watched value in the last run, as `Executor.extremes` gives them. */
  extremes() {
    const found = new Map();
    for (const { values, address } of this.#records) {
      const integers = new BigInt64Array(this.#memory.buffer, address, 2 * values.length);
      values.forEach((value, number) => {
        const [low, high] = found.get(value) ?? [0, 0];
        const [lowest, highest] = [Number(integers[2 * number]), Number(integers[2 * number + 1])];
        found.set(value, [Math.min(low, lowest), Math.max(high, highest)]);
      });
    }
    return found;
  }

  #layoutFor(height, width, floats) {
    if (this.#size !== `${width}x${height}`) {
      this.#layout = new Layout(this.#network, height, width, this.#threads, this.#arena);
      this.#size = `${width}x${height}`;
      this.#grow(this.#arena + this.#layout.bytes);
      new Uint8Array(this.#memory.buffer).fill(0, this.#layout.zeros, this.#layout.zeros + this.#layout.zerosBytes);
      this.#markInside(width);
    }
    this.#grow(this.#arena + this.#layout.bytes + resultBytes(this.#network, height, width, floats));
    return this.#layout;
  }

  /** Write words whose bits are set for what is inside the image, as `inside` of layout.py does. */
  #markInside(width) {
    const { lanes } = this.#network;
    const { vectors, blocks, inside } = this.#layout;
    const words = new Int32Array(this.#memory.buffer, inside, lanes * (vectors + blocks));
    for (let at = 0; at < lanes * vectors; at++)
      words[at] = Math.floor(at / lanes) + vectors * (at % lanes) < width ? -1 : 0;
    for (let at = 0; at < lanes * blocks; at++) {
      const first = 2 * lanes * Math.floor(at / lanes) + (at % lanes); // of two columns in one lane
      words[lanes * vectors + at] = (words[first] & 0xffff) | (words[first + lanes] << 16);
    }
  }

  #grow(bytes) {
    const lacking = Math.ceil((bytes - this.#memory.buffer.byteLength) / PAGE);
    if (lacking <= 0) return;
    try {
      this.#memory.grow(lacking);
    } catch {
      this.#size = undefined;
      throw new LkdnError(
        "memory",
        `There is no memory of ${bytes >> 20} MiB for a tile; ask for smaller ones (memory).`,
      );
    }
  }

  /** Write the window as three planes of float32 in 0..1. */
  #load(rgba, height, width, ofAlpha) {
    const plane = height * width;
    const input = new Float32Array(this.#memory.buffer, this.#layout.input, COLOURS * plane);
    for (let colour = 0; colour < COLOURS; colour++) {
      const target = input.subarray(colour * plane, (colour + 1) * plane);
      let at = ofAlpha ? 3 : colour;
      for (let pixel = 0; pixel < plane; pixel++, at += 4) target[pixel] = SHARES[rgba[at]];
    }
  }

  /** Write the tables for a part of the result; return the addresses that the module's functions take. */
  #tables(height, width, { top, bottom, left, columns, target, rows, floats }) {
    const network = this.#network;
    const layout = this.#layout;
    const words = new Uint32Array(this.#memory.buffer);
    let end = layout.tables;
    const write = (integers) => {
      const address = end;
      integers.forEach((value, number) => {
        words[(address + INTEGER * number) / 4] = value;
        words[(address + INTEGER * number) / 4 + 1] = 0;
      });
      end += INTEGER * integers.length;
      return address;
    };
    const addressOf = (name) => network.functions.indexOf(name) + 1;
    const rest = this.#exports.rest === undefined ? 0 : network.functions.length + 1;
    const state = write(Array.from({ length: STATE }, (_, at) => (at === YIELD ? rest : 0)));
    end = aligned(end);
    const geometry = write([height, width, layout.vectors, layout.blocks, layout.zeros, layout.inside]);
    const records = [];
    const damage = write([0]);
    const writer = addressOf(floats ? "float_output" : "uint8_output");
    const distances = floats ? [FLOAT * columns, FLOAT * rows * columns] : [COLOURS * columns, 0];
    const ranges = network.segments.map(({ halo }) => {
      const step = network.rowStep;
      const whole = (rows) => step * Math.floor(rows / step);
      const low = halo === null ? 0 : whole(Math.max(Math.floor(top / network.scale) - halo, 0));
      const last = halo === null ? height : Math.min(Math.ceil(bottom / network.scale) + halo, height);
      const high = Math.min(whole(last + step - 1), height);
      return (band) => (band === layout.bands ? high : low + whole(((high - low) * band) / layout.bands));
    });

    const bandOf = (segment, number, band) => {
      const memory = layout.bandMemory[band];
      const lines = memory + layout.lineBuffers;
      const sizes = [lines, network.scale * layout.line, layout.line];
      const buffers = new Map();
      let start = memory;
      for (const [value, count] of segment.buffers) {
        buffers.set(value, [start, count, layout.rowBytes.get(value)]);
        start += count * layout.rowBytes.get(value);
      }
      const operand = (value) => {
        if (buffers.has(value)) return buffers.get(value);
        if (value in network.slots) return [layout.slots[network.slots[value]], height, layout.rowBytes.get(value)];
        if (value === 0) return [layout.input, 0, 0];
        return value === network.result ? sizes : [0, 0, 0];
      };
      const [first, last] = [ranges[number](band), ranges[number](band + 1)];
      const steps = [Infinity, -Infinity];
      const stages = segment.stages.flatMap((stage) => {
        const entry = (code, operands, weights, halo) => {
          const low = Math.max(first - halo, 0);
          const high = Math.min(last + halo, height);
          steps[0] = Math.min(steps[0], low + stage.delay);
          steps[1] = Math.max(steps[1], high + stage.delay);
          return [code, operands, weights, stage.delay, low, high];
        };
        const entries = stage.values.flatMap(operand);
        if (stage.watched.length) {
          records.push({ values: stage.watched, address: write(new Array(2 * stage.watched.length).fill(0)) });
          entries.push(records.at(-1).address, 0, 0);
        }
        const operands = write(entries);
        const own = entry(stage.function + 1, operands, this.#weights + stage.weights, stage.halo);
        if (!stage.output) return own;
        const facts = write([...sizes, network.scale, top, bottom, left, columns, target, ...distances]);
        return [...own, ...entry(writer, facts, damage, 0)];
      });
      return [write(stages), stages.length / STAGE_FACTS, ...steps];
    };

    const bands = Array.from({ length: layout.bands }, (_, band) =>
      network.segments.map((segment, number) => bandOf(segment, number, band)),
    );
    this.#records = records;
    return {
      state,
      geometry,
      damage,
      segments: network.segments.length,
      lead: bands[0],
      bands: bands.map((it) => write(it.flat())),
    };
  }
}

/** Compute another thread's bands, as `Engine.run` starts them. */
export function follow(exports, { state, bands, segments, geometry }) {
  exports.follow(state, bands, BigInt(segments), geometry);
}

const SHARES = Float32Array.from({ length: 256 }, (_, level) => level / 255);
const LUMA = [0.299, 0.587, 0.114].map(Math.fround); // ITU-R BT.601, as in imaging/pixels.py

function withAlpha(rgb, alpha) {
  const rgba = new Uint8ClampedArray((rgb.length / COLOURS) * 4);
  for (let from = 0, to = 0; from < rgb.length; from += COLOURS, to += 4) {
    rgba[to] = rgb[from];
    rgba[to + 1] = rgb[from + 1];
    rgba[to + 2] = rgb[from + 2];
    rgba[to + 3] = alpha;
  }
  return rgba;
}

/** The luma of three planes of float32, in 8 bits, each step rounded to float32 as NumPy does. */
function luma(planes) {
  const size = planes.length / COLOURS;
  const found = new Uint8ClampedArray(size); // which clips, and rounds halves to even
  const { fround } = Math;
  for (let pixel = 0; pixel < size; pixel++) {
    const red = fround(planes[pixel] * LUMA[0]);
    const green = fround(planes[size + pixel] * LUMA[1]);
    const blue = fround(planes[2 * size + pixel] * LUMA[2]);
    found[pixel] = fround(fround(fround(red + green) + blue) * 255);
  }
  return found;
}
