// What `pack` makes of two results that together take more than is kept.
const done = arguments[arguments.length - 1];
const named = performance.getEntriesByType("resource").map((it) => it.name);
import(named.find((it) => /\/work\.[^/]*mjs$/.test(it))).then(async ({ pack }) => {
  const make = () => ({
    state: "done",
    saving: null,
    packed: null,
    notes: [],
    result: {
      ...{ width: 2, height: 1, colours: "srgb", transparent: false, bytes: 2 ** 30 },
      pieces: [{ top: 0, left: 0, width: 2, height: 1, blob: new Blob([new Uint8Array(8).fill(255)]) }],
      forget() {
        this.pieces = [];
        this.bytes = 0;
      },
    },
  });
  const entries = [make(), make()];
  await pack(entries, "png", () => {});
  done(entries.map((it) => [it.packed?.type ?? null, it.result.pieces.length, it.notes[0] ?? null]));
});
