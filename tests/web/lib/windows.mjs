// node windows.mjs STATIC FOLDER: compute windows with the engine of STATIC, and write each result beside its pixels.
// FOLDER has code.wasm, threads.wasm, weights.bin, network.json and windows.json: a list of [name, height, width, threads].

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { Worker, isMainThread, workerData } from "node:worker_threads";

const { engine: location, folder } = isMainThread
  ? { engine: pathToFileURL(`${process.argv[2]}/engine.mjs`).href, folder: process.argv[3] }
  : workerData;
const { Engine, fixedBytes, follow, instantiate, newMemory } = await import(location);
const read = (name) => readFileSync(`${folder}/${name}`);
const network = JSON.parse(read("network.json"));

async function open(threads) {
  const weights = new Uint8Array(read("weights.bin"));
  const module = await WebAssembly.compile(read(threads > 1 ? "threads.wasm" : "code.wasm"));
  const memory = newMemory(fixedBytes(network, weights.length, threads), 1 << 29, threads > 1);
  const engine = new Engine(network, memory, await instantiate(module, memory, network, 0), threads, weights);
  const others = await Promise.all(
    Array.from({ length: threads - 1 }, async (_, number) => {
      const worker = new Worker(new URL(import.meta.url), {
        workerData: { engine: location, folder, module, memory, thread: number + 1 },
      });
      worker.unref();
      await new Promise((resolve) => worker.once("message", resolve));
      return worker;
    }),
  );
  return (job) => {
    const start = (tables, number) => others[number].postMessage(tables);
    return [engine.compute(job, start, () => {}), engine.extremes()];
  };
}

if (isMainThread) {
  const engines = new Map();
  for (const [name, height, width, threads] of JSON.parse(read("windows.json"))) {
    if (!engines.has(threads)) engines.set(threads, await open(threads));
    const kept = [0, network.scale * height, 0, network.scale * width];
    const job = { rgba: read(`${name}.rgba`), height, width, kept, ofAlpha: false, floats: true };
    const [result, extremes] = engines.get(threads)(job);
    writeFileSync(`${folder}/${name}.f32`, result);
    writeFileSync(`${folder}/${name}.json`, JSON.stringify([...extremes]));
  }
} else {
  const { parentPort } = await import("node:worker_threads");
  const exports = await instantiate(workerData.module, workerData.memory, network, workerData.thread);
  parentPort.on("message", (tables) => follow(exports, tables));
  parentPort.postMessage("ready");
}
