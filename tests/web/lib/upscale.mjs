// node upscale.mjs PACKAGE FOLDER: upscale FOLDER's pictures with the default network of PACKAGE (lkdn.mjs, or a name).
// FOLDER has pictures.json, a list of [name, width, height, options], and NAME.rgba; the results are NAME.out.

import { readFileSync, writeFileSync } from "node:fs";

const bytes = ({ buffer, byteOffset, length }) => Buffer.from(buffer, byteOffset, length);
const [location, folder] = process.argv.slice(2);
const { load } = await import(location);
for (const [name, width, height, options] of JSON.parse(readFileSync(`${folder}/pictures.json`))) {
  const upscale = await load(undefined, options);
  const data = new Uint8Array(readFileSync(`${folder}/${name}.rgba`));
  const result = await upscale({ data, width, height });
  writeFileSync(`${folder}/${name}.out`, result.data);
  let strips = 0;
  for await (const strip of upscale.strips({ data, width, height })) {
    const start = 4 * strip.width * strip.top;
    if (Buffer.compare(bytes(strip.data), bytes(result.data.subarray(start, start + strip.data.length))))
      throw new Error(`${name}: strip ${strips} differs from the whole`);
    strips++;
  }
  console.log(name, result.width, result.height, upscale.scale, strips);
}
// Nothing is closed: the program must end all the same.
