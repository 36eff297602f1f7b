// node tiles.mjs STATIC EXAMPLES: check the plans of tiles of STATIC against the examples that Python is checked with.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, examples] = process.argv.slice(2);
const { chooseWindow, planAxis } = await import(pathToFileURL(`${folder}/tiles.mjs`).href);
for (const { height, width, halo, least, budget, step, window, rows, columns } of JSON.parse(readFileSync(examples))) {
  const cost = (down, across) => down * across;
  assert.deepEqual(chooseWindow(height, width, halo, budget, least, cost), window);
  const spans = (length, side) =>
    planAxis(length, side, halo, step).map(({ start, stop, keepStart, keepStop }) => [start, stop, keepStart, keepStop]);
  assert.deepEqual(spans(height, window[0]), rows);
  assert.deepEqual(spans(width, window[1]), columns);
}
assert.throws(() => planAxis(100, 20, 10), RangeError);
