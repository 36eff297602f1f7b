// The package in Node: for each line on standard input, one run; prints its milliseconds.
// node node.mjs SITE WIDTH HEIGHT THREADS PICTURE (raw RGBA)

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setFlagsFromString } from "node:v8";

setFlagsFromString("--experimental-wasm-relaxed-simd"); // Node 20 has it behind a flag, later versions have it anyway

const [site, width, height, threads, path] = process.argv.slice(2);
const { load } = await import(`${site}/lkdn.mjs`);
const upscale = await load("lkdn-s_x4", { threads: Number(threads) });
const picture = { width: Number(width), height: Number(height), data: new Uint8ClampedArray(readFileSync(path)) };
for await (const _ of createInterface({ input: process.stdin })) {
  const start = performance.now();
  await upscale(picture);
  console.log(performance.now() - start);
}
upscale.close();
