// node behaviour.mjs FOLDER: what the package promises apart from its results, with the networks of FOLDER.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, readdirSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { pathToFileURL } from "node:url";

const folder = process.argv[2];
const at = (path) => import(pathToFileURL(`${path}/lkdn.mjs`).href);
const { LkdnError, load, models } = await at(folder);

const code = (expected) => (error) => error instanceof Error && error.name === "LkdnError" && error.code === expected;
const picture = (width, height) => ({
  data: Uint8ClampedArray.from({ length: 4 * width * height }, (_, it) => (it % 4 === 3 ? 255 : (it * 7919) % 251)),
  width,
  height,
});

const [first, ...others] = await models();
assert.deepEqual([first.default, others.length], [true, 0]);
await assert.rejects(load("lkdn_x9"), code("model"));
for (const options of [{ threads: 0 }, { threads: 1.5 }, { memory: 10 }, { memory: NaN }])
  await assert.rejects(load(first.name, options), code("input"));
await assert.rejects(load(first.name, { signal: AbortSignal.abort("not now") }), (reason) => reason === "not now");

const upscale = await load(first.name, { threads: 2, memory: 1 << 20 });
assert.deepEqual(
  [upscale.name, upscale.model, upscale.scale, upscale.threads],
  [first.name, first.model, first.scale, 2],
);
const { data } = picture(8, 6);
for (const wrong of [null, undefined, "x.png", {}, { data, width: 8 }, { data, width: 6, height: 9 }])
  await assert.rejects(upscale(wrong), code("input"));
for (const wrong of [
  { data: [...data], width: 8, height: 6 },
  { data, width: -8, height: -6 },
])
  await assert.rejects(upscale(wrong), code("input"));

const large = picture(300, 400);
const seen = [];
const expected = await upscale(large, { onProgress: (fraction) => seen.push(fraction) });
assert.deepEqual([expected.width, expected.height], [300 * upscale.scale, 400 * upscale.scale]);
assert.equal(seen[0], 0);
assert.equal(seen.at(-1), 1);
assert.ok(seen.length > 2);
assert.ok(seen.every((fraction, number) => number === 0 || fraction >= seen[number - 1]));

const works = async () => assert.deepEqual((await upscale(large)).data, expected.data);

// Cancelled before, in its turn and in the middle; what comes after is not affected.
await assert.rejects(upscale(large, { signal: AbortSignal.abort() }), { name: "AbortError" });
const middle = new AbortController();
const running = upscale(large, {
  signal: middle.signal,
  onProgress: (fraction) => fraction > 0.3 && middle.abort(new Error("enough")),
});
const waiting = new AbortController();
const queued = upscale(large, { signal: waiting.signal });
waiting.abort();
const after = works();
await assert.rejects(queued, { name: "AbortError" });
await assert.rejects(running, { message: "enough" });
await after;
await assert.rejects(upscale(large, { onProgress: () => { throw new Error("mine"); } }), { message: "mine" }); // prettier-ignore
await works();

// By strips, and given up early.
let top = 0;
for await (const strip of upscale.strips(large)) {
  assert.equal(strip.top, top);
  assert.equal(strip.data.length, 4 * strip.width * strip.height);
  top += strip.height;
}
assert.equal(top, expected.height);
for await (const strip of upscale.strips(large)) if (strip.top === 0) break;
await works();

// At once: one after the other.
await Promise.all([works(), works()]);

const failing = upscale(large);
upscale.close();
upscale.close();
await assert.rejects(failing, code("closed"));
await assert.rejects(upscale(large), code("closed"));

// Files that are not what they should be.
async function damaged(ending, damage) {
  const copy = mkdtempSync(`${tmpdir()}/lkdn-`);
  cpSync(folder, copy, { recursive: true });
  for (const name of readdirSync(copy)) if (ending.test(name)) damage(`${copy}/${name}`);
  const { load: other } = await at(copy);
  return (await other(undefined, { threads: 1 }))(picture(8, 6));
}
await assert.rejects(
  damaged(/\.bin$/, (path) => truncateSync(path, 100)),
  code("model"),
);
await assert.rejects(
  damaged(/-alone\..*wasm$/, (path) => writeFileSync(path, "<!doctype html>")),
  code("model"),
);
await assert.rejects(
  damaged(/^models\..*json$/, (path) => writeFileSync(path, "<!doctype html>")),
  code("model"),
);
await assert.rejects(
  damaged(/^models\..*json$/, (path) => writeFileSync(path, '{"format":99}')),
  code("model"),
);
const nan = (path) => writeFileSync(path, new Float32Array(readFileSync(path).length / 4).fill(NaN));
await assert.rejects(damaged(/\.bin$/, nan), code("failed"));

const { validate } = WebAssembly;
WebAssembly.validate = () => false;
await assert.rejects(load(), code("unsupported"));
WebAssembly.validate = validate;
assert.ok(new LkdnError("input", "text") instanceof Error);
