/** Upscaling of pictures by networks of lkdn-deploy, in a page, a worker or Node. Everything heavy runs in workers. */

/** A network that can be loaded. */
export interface Model {
  /** Name for `load`, such as `lkdn-s_x4`. */
  readonly name: string;
  /** Network, such as `lkdn-s`. */
  readonly model: string;
  /** Factor by which it enlarges both sides. */
  readonly scale: number;
  /** Pixels around a tile that its result depends on. */
  readonly halo: number;
  /** Bytes of its files; of four modules, each a few per cent of this, one is read. */
  readonly bytes: number;
  /** Whether `load` takes it where no name is given. */
  readonly default: boolean;
}

/** An `ImageData`, or anything alike: RGBA of 8 bits, straight alpha, row by row without gaps. */
export interface Picture {
  readonly data: Uint8ClampedArray | Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** A result where there is no `ImageData`. */
export interface PictureData {
  readonly data: Uint8ClampedArray<ArrayBuffer>;
  readonly width: number;
  readonly height: number;
}

/** Rows of a result. */
export interface Strip extends PictureData {
  /** Number of the first row in the whole result. */
  readonly top: number;
}

export interface LoadOptions {
  /** Threads; by default one for each core, or 1 where the page is not isolated (`crossOriginIsolated`). */
  readonly threads?: number;
  /** Bytes that the network may take for a tile; 256 MiB by default. */
  readonly memory?: number;
  /** Ends loading. */
  readonly signal?: AbortSignal;
}

export interface UpscaleOptions {
  /** Called with the part that is done, from 0 to 1, several times in each tile. */
  readonly onProgress?: (fraction: number) => void;
  /** Ends the work at once; the promise is rejected with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** A loaded network. Pictures that are given while it works wait for their turn. */
export interface Upscale {
  /**
   * Upscales a picture, which must not change meanwhile. Tiles give the same result as the whole picture would.
   *
   * Colours of fully transparent pixels are made up from their neighbours, and alpha is upscaled like a colour.
   *
   * @throws {LkdnError} of code `input`, `memory`, `failed` or `closed`.
   */
  (picture: Picture, options?: UpscaleOptions): Promise<ImageData | PictureData>;
  /**
   * Upscales a picture by bands of rows, from top to bottom, so that the result is never in memory as a whole. Each
   * band is computed when it is asked for, with a tile ahead. To leave the loop early ends the work.
   */
  strips(picture: Picture, options?: UpscaleOptions): AsyncGenerator<Strip, void, undefined>;
  /** Ends the workers and frees the memory. */
  close(): void;
  readonly name: string;
  readonly model: string;
  readonly scale: number;
  /** Threads that work together. */
  readonly threads: number;
}

/**
 * - `input`: a picture or an option is not of the expected form;
 * - `unsupported`: there is no WebAssembly SIMD here;
 * - `isolation`: several threads were asked for in a page that is not isolated;
 * - `model`: there is no such model, or a file of it cannot be read;
 * - `memory`: memory ran out;
 * - `failed`: a worker failed, or the network gave values that are not finite;
 * - `closed`: the network is closed.
 */
export type ErrorCode = "input" | "unsupported" | "isolation" | "model" | "memory" | "failed" | "closed";

/** An error with a message for people. */
export class LkdnError extends Error {
  readonly code: ErrorCode;
}

/** The networks that can be loaded. */
export function models(): Promise<Model[]>;

/** Loads a network: the default one, or one of `models`. */
export function load(name?: string, options?: LoadOptions): Promise<Upscale>;
