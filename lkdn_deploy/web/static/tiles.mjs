// Tiles whose result equals the whole image's, as lkdn_deploy/imaging/tiles.py plans them and explains why. Both are
// tested with the same examples (tests/web/tiles.json).

/** The side of the smallest window worth computing. */
export const smallestWindow = (halo) => 2 * halo + Math.max(Math.floor(halo / 2), 1);

/**
 * Cover an axis with as few equal windows as give every pixel exactly, once; they begin at multiples of `step`.
 *
 * @returns {{ start: number, stop: number, keepStart: number, keepStop: number }[]} what is read, and what is kept
 */
export function planAxis(length, window, halo, step = 1) {
  let size = Math.min(window, length);
  if (size < length) {
    checkWindow(size, halo);
    size = Math.min(Math.max(size, 2 * halo + step), length);
    size += (length - size) % step;
  }
  const spans = [];
  for (let done = 0; done < length;) {
    const start = Math.min(Math.max(done - halo - ((done - halo) % step), 0), length - size);
    const stop = start + size;
    const keepStop = stop === length ? length : stop - halo;
    spans.push({ start, stop, keepStart: done, keepStop });
    done = keepStop;
  }
  return spans;
}

/**
 * The rows and columns of the windows that an image is cut into at the least cost.
 *
 * @param {number} height of the image
 * @param {number} width of the image
 * @param {number} halo the network's receptive radius
 * @param {number} budget the most that a window may take, as `cost` counts it
 * @param {number} least of a side that is cut, besides `smallestWindow(halo)`
 * @param {(rows: number, columns: number) => number} cost of a window
 * @returns {[number, number]}
 */
export function chooseWindow(height, width, halo, budget, least, cost) {
  const smallest = Math.max(least, smallestWindow(halo));
  const across = cuts(width, halo, smallest);
  let best;
  for (const [rows, many] of cuts(height, halo, smallest))
    for (const [columns, wide] of across) {
      const excess = Math.max(cost(rows, columns) - budget, 0);
      // The fewer the windows, the less halo and the fewer calls; stripes lie in memory as one piece.
      const key = [excess, rows * many * columns * wide, many * wide, wide, rows, columns];
      if (best === undefined || before(key, best)) best = key;
    }
  return [best[4], best[5]];
}

function before(one, other) {
  const place = one.findIndex((value, at) => value !== other[at]);
  return place >= 0 && one[place] < other[place];
}

/** The size and number of equal windows, for every number that makes them smaller. */
function cuts(length, halo, least) {
  const found = [[length, 1]];
  const shared = length - 2 * halo;
  for (let window = length; window > Math.min(least, length);) {
    const count = Math.ceil(shared / (window - 1 - 2 * halo));
    window = Math.max(Math.ceil(shared / count) + 2 * halo, Math.min(least, length));
    found.push([window, count]);
  }
  return found;
}

function checkWindow(window, halo) {
  if (window <= 2 * halo)
    throw new RangeError(`a window of ${window} pixels leaves nothing between two halos of ${halo}`);
}
