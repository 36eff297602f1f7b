// The workers that compute one network together.

import { fixedBytes, newMemory } from "./engine.mjs";
import { LkdnError } from "./errors.mjs";
import { startWorker } from "./host.mjs";

export class Crew {
  #workers = [];
  #ports = [];
  #jobs = new Map();
  #number = 0;
  #stopped = null;
  #start;

  /**
   * @param {object} given
   * @param {WebAssembly.Module} given.module
   * @param {object} given.network description of the network
   * @param {Uint8Array} given.weights
   * @param {number} given.threads
   * @param {number} given.most bytes that the memory may have
   */
  constructor(given) {
    this.#start = withResolvers();
    this.#start.promise.catch(() => {});
    this.#begin(given).catch((error) => this.stop(error));
  }

  /** Resolves when all workers can work. */
  get ready() {
    return this.#start.promise;
  }

  async #begin({ module, network, weights, threads, most }) {
    const memory = threads > 1 ? newMemory(fixedBytes(network, weights.length, threads), most, true) : undefined;
    const links = Array.from({ length: threads - 1 }, () => new MessageChannel());
    let waiting = threads;
    for (let thread = 0; thread < threads && !this.#stopped; thread++) {
      const { port1: port, port2 } = new MessageChannel();
      port.onmessage = ({ data }) => {
        if (!data.ready) this.#receive(data);
        else if (--waiting === 0) this.#start.resolve();
      };
      this.#ports.push(port);
      const others = thread === 0 ? links.map(({ port1 }) => port1) : [links[thread - 1].port2];
      const mine = thread === 0 ? weights : undefined;
      const message = { port: port2, others, module, network, thread, threads, weights: mine, most, memory };
      const died = (reason) => this.stop(new LkdnError("failed", `A worker of the engine failed: ${reason}`));
      const worker = await startWorker(message, [port2, ...others], died);
      if (this.#stopped) worker.terminate();
      else this.#workers.push(worker);
    }
    await this.ready;
    this.#rest();
  }

  /**
   * Compute a window; several are computed one after the other.
   *
   * @param {object} job as `Engine.run` takes it; its pixels are transferred
   * @param {(fraction: number) => void} progress
   * @returns {Promise<Uint8ClampedArray>}
   */
  run(job, progress) {
    return new Promise((resolve, reject) => {
      if (this.#stopped) {
        reject(this.#stopped.reason);
        return;
      }
      const id = this.#number++;
      this.#jobs.set(id, { resolve, reject, progress });
      this.#ports[0].ref?.();
      this.#ports[0].postMessage({ id, job }, [job.rgba.buffer]);
    });
  }

  #receive({ id, fraction, result, error }) {
    const job = this.#jobs.get(id);
    try {
      if (fraction !== undefined) {
        job?.progress(fraction);
        return;
      }
    } catch (thrown) {
      this.stop(thrown);
      return;
    }
    const problem = error && new LkdnError(error.code, error.message);
    if (job === undefined) {
      if (problem) this.stop(problem); // a worker could not begin
      return;
    }
    this.#jobs.delete(id);
    this.#rest();
    if (problem) job.reject(problem);
    else job.resolve(result);
  }

  /** Let a program of Node end while there is nothing to do. */
  #rest() {
    if (this.#jobs.size === 0) this.#ports.forEach((port) => port.unref?.());
  }

  /** End all workers at once; what they have not finished fails for this reason. */
  stop(reason) {
    if (this.#stopped) return;
    this.#stopped = { reason };
    this.#start.reject(reason);
    this.#workers.forEach((worker) => worker.terminate());
    this.#ports.forEach((port) => port.close());
    this.#jobs.forEach(({ reject }) => reject(reason));
    this.#jobs.clear();
  }

  get stopped() {
    return this.#stopped !== null;
  }
}

function withResolvers() {
  const found = {};
  found.promise = new Promise((resolve, reject) => Object.assign(found, { resolve, reject }));
  return found;
}
