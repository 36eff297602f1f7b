// The networks of this folder: which there are, and the one that is loaded.

/** Names as papers write them. */
export const title = (model) => model.toUpperCase();

/** Loads networks, one at a time, with the API of the package, which the first paint does not wait for. */
export class Networks {
  #api = import("./lkdn.mjs");
  #loaded = null; // { name, upscale }: a promise

  constructor() {
    this.#api.catch(() => {}); // `list` and `get` throw it
  }

  /** Resolves to what `models()` gives. */
  async list() {
    return (await this.#api).models();
  }

  /** Resolves to the function of a network; the one before is closed. */
  async get(name) {
    if (this.#loaded?.name !== name) {
      const before = this.#loaded;
      const upscale = this.#load(name);
      this.#loaded = { name, upscale };
      before?.upscale.then((it) => it.close(), () => {});
      upscale.catch(() => {
        if (this.#loaded?.upscale === upscale) this.#loaded = null; // so that the next call tries again
      });
    }
    return this.#loaded.upscale;
  }

  async #load(name) {
    const { load } = await this.#api;
    return load(name);
  }
}
