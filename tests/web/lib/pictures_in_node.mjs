// What the page's modules make of files, in Node: headers of the files named on the command line as JSON lines, or with
// "write WIDTH HEIGHT TRANSPARENT ROWS" a PNG file of the raw RGBA on standard input, in bands of so many rows.

import { readFileSync, writeSync } from "node:fs";

const [folder, task, ...words] = process.argv.slice(2);

if (task === "headers") {
  const { inspect } = await import(`${folder}/headers.mjs`);
  for (const name of words) console.log(JSON.stringify(await inspect(new Uint8Array(readFileSync(name)))));
} else {
  const { PngWriter } = await import(`${folder}/png-writer.mjs`);
  const [width, height, transparent, rows] = words.map(Number);
  const data = new Uint8Array(readFileSync(0));
  const writer = new PngWriter(width, height, transparent === 1);
  for (let y = 0; y < height; y += rows) await writer.add(data.subarray(4 * width * y, 4 * width * Math.min(y + rows, height)));
  writeSync(1, new Uint8Array(await (await writer.finish()).arrayBuffer()));
}
