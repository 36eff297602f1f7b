// A compiled network in Node, in one thread: for each line on standard input, one run; prints its milliseconds and, as
// JSON, the extremes of its values.
// node engine.mjs STATIC FOLDER WIDTH HEIGHT: STATIC has the package's engine.mjs; FOLDER has code.wasm, weights.bin,
// network.json and picture.rgba.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { setFlagsFromString } from "node:v8";

setFlagsFromString("--experimental-wasm-relaxed-simd"); // Node 20 has it behind a flag, later versions have it anyway

const [location, folder, ...sides] = process.argv.slice(2);
const { Engine, fixedBytes, instantiate, newMemory } = await import(pathToFileURL(`${location}/engine.mjs`).href);
const read = (name) => readFileSync(`${folder}/${name}`);
const network = JSON.parse(read("network.json"));
const weights = new Uint8Array(read("weights.bin"));
const memory = newMemory(fixedBytes(network, weights.length, 1), 1 << 30, false);
const exports = await instantiate(await WebAssembly.compile(read("code.wasm")), memory, network, 0);
const engine = new Engine(network, memory, exports, 1, weights);
const [width, height] = sides.map(Number);
const kept = [0, network.scale * height, 0, network.scale * width];
const job = { rgba: read("picture.rgba"), height, width, kept, ofAlpha: false, floats: false };
for await (const _ of createInterface({ input: process.stdin })) {
  const start = performance.now();
  engine.compute(job, () => {}, () => {});
  const extremes = [...engine.extremes()];
  console.log(JSON.stringify([performance.now() - start, extremes]));
}
