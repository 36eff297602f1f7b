// Strips of a picture in one tile and in many, and whether the results are equal.
const [name, width, height, done] = arguments;
import("./lkdn.mjs").then(async ({ load }) => {
  const data = Uint8ClampedArray.from({ length: 4 * width * height }, (_, at) => (at % 4 === 3 ? 255 : (at * at * 31) >> 7));
  const results = [];
  const strips = [];
  for (const memory of [2 ** 28, 3 * 2 ** 24]) {
    const upscale = await load(name, { memory });
    let count = 0;
    for await (const strip of upscale.strips({ data, width, height })) count += strip.height > 0;
    strips.push(count);
    results.push((await upscale({ data, width, height })).data);
    upscale.close();
  }
  const [whole, cut] = results;
  done([strips, whole.length, whole.length === cut.length && whole.every((value, at) => value === cut[at])]);
});
