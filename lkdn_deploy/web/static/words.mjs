// Numbers and names as the page shows them.

export const size = (width, height) => `${width} × ${height}`;

/** A duration in whole words: "under a second", "12 s", "3 min 5 s", "1 h 20 min". */
export function duration(seconds) {
  if (seconds < 1) return "under a second";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.round((whole % 3600) / 60)} min`;
}

/** A time that was measured, with a digit more where it is short. */
export const measured = (seconds) => (seconds < 10 ? `${seconds.toFixed(1)} s` : duration(seconds));

/** A number with about two digits. */
export const amount = (value) => (value < 10 ? value.toFixed(1) : String(Math.round(value)));

/** The size of a file. */
export const bytes = (count) => (count < 1e6 ? `${Math.ceil(count / 1e3)} kB` : `${amount(count / 1e6)} MB`);

/** Megapixels of a size. */
export const megapixels = (width, height) => (width * height) / 1e6;

const SUFFIXES = { "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp" };

/** The name of a result: photo.jpeg becomes photo_x4.png. */
export function resultName(name, scale, type) {
  const stem = name.replace(/\.[^.]{1,5}$/, "").replace(/[\p{C}<>:"/\\|?*]/gu, "_").slice(0, 120);
  return `${stem || "picture"}_x${scale}${SUFFIXES[type]}`;
}

/** A name that is not yet taken: photo_x4.png, photo_x4 (2).png. */
export function unusedName(name, taken) {
  const dot = name.lastIndexOf(".");
  let free = name;
  for (let count = 2; taken.has(free); count++) free = `${name.slice(0, dot)} (${count})${name.slice(dot)}`;
  return free;
}
