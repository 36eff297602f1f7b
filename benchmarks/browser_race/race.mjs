// Candidates of benchmarks/browser.py, which calls `race.prepare` and then `race.run`, one run at a time.

import { load } from "./site/lkdn.mjs";

let picture; // ImageData
let batch; // the same as float32, (1, 3, H, W), 0..1
const candidates = new Map(); // name -> a function that runs it and resolves to the result
const results = new Map();

async function ours(name, threads) {
  const upscale = await load(name, { threads });
  return async () => (await upscale(picture)).data; // from pixels to pixels
}

/** The same as in a browser that finds the instructions of relaxed SIMD invalid. */
async function withoutRelaxed(name, threads) {
  const { validate } = WebAssembly;
  WebAssembly.validate = (code) => !code.join().includes("253,133,2,") && validate(code);
  try {
    return await ours(name, threads);
  } finally {
    WebAssembly.validate = validate;
  }
}

/** The network alone, from float32 to float32; the conversion of pixels is not in its time. */
async function onnxruntime(threads) {
  const ort = await import(`./ort.wasm.min.mjs?threads=${threads}`); // an instance each, as threads are set for all of it
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;
  const session = await ort.InferenceSession.create("./lkdn-s_x4.onnx", {
    executionProviders: ["wasm"],
    graphOptimizationLevel: "all",
    freeDimensionOverrides: { batch: 1, height: picture.height, width: picture.width },
  });
  const [input] = session.inputNames;
  return async () => {
    const tensor = new ort.Tensor("float32", batch, [1, 3, picture.height, picture.width]);
    return (await session.run({ [input]: tensor }))[session.outputNames[0]].data;
  };
}

/** UpscalerJS with the model that it brings, from a tensor to a tensor that has been read. */
async function upscalerjs() {
  tf.wasm.setWasmPaths(new URL("./", import.meta.url).href);
  tf.wasm.setThreadsCount(1);
  await tf.setBackend("wasm");
  const model = { ...DefaultUpscalerJSModel, path: new URL("./default-model/model.json", import.meta.url).href };
  const upscaler = new Upscaler({ model });
  await upscaler.ready;
  return async () => {
    const tensor = tf.browser.fromPixels(picture);
    const large = await upscaler.upscale(tensor, { output: "tensor" });
    const data = await large.data();
    tf.dispose([tensor, large]);
    return data;
  };
}

const MAKERS = {
  "ours x4, 1 thread": () => ours("lkdn-s_x4", 1),
  "ours x4, 2 threads": () => ours("lkdn-s_x4", 2),
  "ours x4 without relaxed SIMD, 1 thread": () => withoutRelaxed("lkdn-s_x4", 1),
  "ours x2, 1 thread": () => ours("lkdn-s_x2", 1),
  "onnxruntime-web x4, 1 thread": () => onnxruntime(1),
  "onnxruntime-web x4, 2 threads": () => onnxruntime(2),
  "UpscalerJS x2, 1 thread": () => upscalerjs(),
};

/** Read the picture and open a candidate; resolves to the names of all. */
async function prepare(name) {
  if (picture === undefined) {
    const bitmap = await createImageBitmap(await (await fetch("./picture.png")).blob());
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    picture = context.getImageData(0, 0, bitmap.width, bitmap.height);
    const size = picture.width * picture.height;
    batch = Float32Array.from({ length: 3 * size }, (_, at) => picture.data[4 * (at % size) + Math.floor(at / size)] / 255);
  }
  candidates.set(name, await MAKERS[name]());
}

/** Run a candidate; resolves to milliseconds. */
async function run(name) {
  const candidate = candidates.get(name);
  const start = performance.now();
  const result = await candidate();
  const time = performance.now() - start;
  results.set(name, result);
  return time;
}

/** The largest difference, in levels of 255, between pixels of ours and values of ONNX Runtime. */
function difference(pixels, values) {
  const [rgba, planes] = [results.get(pixels), results.get(values)];
  const size = rgba.length / 4;
  let most = 0;
  for (let at = 0; at < 3 * size; at++) {
    const value = Math.min(Math.max(planes[at], 0), 1) * 255;
    most = Math.max(most, Math.abs(rgba[4 * (at % size) + Math.floor(at / size)] - value));
  }
  return most;
}

globalThis.race = { prepare, run, difference, names: Object.keys(MAKERS) };
