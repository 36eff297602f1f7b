// A worker of the engine. The first one computes windows; each of the others follows it, and computes a band of each
// window in the same memory. lkdn.mjs starts them, and talks to them through the port in the first message.

import { Engine, fixedBytes, follow, instantiate, newMemory } from "./engine.mjs";
import { LkdnError } from "./errors.mjs";

async function begin({ port, others, module, network, thread, threads, weights, most, ...given }) {
  const reply = (error, more) =>
    port.postMessage({
      error: { code: error instanceof LkdnError ? error.code : "failed", message: error.message },
      ...more,
    });
  try {
    const memory = given.memory ?? newMemory(fixedBytes(network, weights.length, threads), most, false);
    const exports = await instantiate(module, memory, network, thread);
    if (thread > 0) {
      others[0].onmessage = ({ data }) => follow(exports, data);
    } else {
      const engine = new Engine(network, memory, exports, threads, weights);
      port.onmessage = ({ data: { id, job } }) => {
        try {
          const start = (tables, number) => others[number].postMessage(tables);
          const progress = (fraction) => port.postMessage({ id, fraction });
          const result = engine.run(job, start, progress);
          port.postMessage({ id, result }, [result.buffer]);
        } catch (error) {
          reply(error, { id });
        }
      };
    }
    port.postMessage({ ready: true });
  } catch (error) {
    reply(error);
  }
}

if (globalThis.WorkerGlobalScope) {
  globalThis.onmessage = ({ data }) => begin(data);
} else {
  const { parentPort } = await import("node:worker_threads");
  parentPort.once("message", begin);
}
