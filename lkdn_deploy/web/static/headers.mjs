// Facts of a picture file from its first bytes, before anything is decoded: format, size, bits, colours.
// Every length is somebody's claim, so each is checked against the bytes at hand.

const SOF = new Set([0xc0, 0xc1, 0xc2, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf]);
const LARGEST_PROFILE = 1 << 22;

/** How many bytes of the beginning `inspect` wants to see. */
export const HEADER_BYTES = 1 << 20;

/**
 * Read what the beginning of a file says.
 *
 * @param {Uint8Array} bytes the first HEADER_BYTES of the file, or all of it
 * @returns {Promise<{ format: string, width: number | null, height: number | null, bits: number, alpha: boolean,
 *   animated: boolean, colours: string, profile: string }>} `format`: "" if unknown; sizes null where the bytes do not
 *   tell; `alpha`: whether there may be transparency; `colours`: "srgb", "p3" or "other"; `profile`: its description
 */
export async function inspect(bytes) {
  const facts = { format: "", width: null, height: null, bits: 8, alpha: true, animated: false, colours: "srgb", profile: "" };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let icc = null;
  try {
    if (ascii(bytes, 1, 3) === "PNG" && bytes[0] === 0x89) icc = await png(bytes, view, facts);
    else if (bytes[0] === 0xff && bytes[1] === 0xd8) icc = jpeg(bytes, view, facts);
    else if (ascii(bytes, 0, 4) === "RIFF" && ascii(bytes, 8, 4) === "WEBP") icc = webp(bytes, view, facts);
    else if (ascii(bytes, 0, 4) === "GIF8") gif(bytes, view, facts);
    else if (ascii(bytes, 0, 2) === "BM") bmp(view, facts);
    else if (ascii(bytes, 4, 4) === "ftyp") icc = heif(bytes, view, facts);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a length that leads out of the bytes: the decoder will say more
  }
  if (icc !== null) nameColours(icc, facts);
  return facts;
}

const ascii = (bytes, at, length) => String.fromCharCode(...bytes.subarray(at, at + length));

async function png(bytes, view, facts) {
  facts.format = "PNG";
  facts.width = view.getUint32(16);
  facts.height = view.getUint32(20);
  facts.bits = bytes[24];
  facts.alpha = bytes[25] === 4 || bytes[25] === 6;
  let icc = null;
  for (let at = 33; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = ascii(bytes, at + 4, 4);
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (kind === "IDAT") break;
    if (kind === "tRNS") facts.alpha = true;
    if (kind === "acTL") facts.animated = true;
    if (kind === "cICP") nameCodes(body[0], facts);
    if (kind === "iCCP" && length < LARGEST_PROFILE) icc = await inflate(body.subarray(body.indexOf(0) + 2));
    at += length + 12;
  }
  return icc;
}

function jpeg(bytes, view, facts) {
  facts.format = "JPEG";
  facts.alpha = false;
  let icc = null;
  for (let at = 2; at + 4 <= bytes.length; ) {
    if (bytes[at] !== 0xff) break;
    const marker = bytes[at + 1];
    if (marker === 0xff || marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) {
      at += marker === 0xff ? 1 : 2;
      continue;
    }
    if (marker === 0xda || marker === 0xd9) break;
    if (SOF.has(marker)) {
      facts.bits = bytes[at + 4];
      facts.height = view.getUint16(at + 5) || null; // 0: it comes later
      facts.width = view.getUint16(at + 7);
      break;
    }
    const length = view.getUint16(at + 2);
    if (marker === 0xe2 && ascii(bytes, at + 4, 11) === "ICC_PROFILE" && bytes[at + 16] === 1)
      icc = bytes.subarray(at + 18, at + 2 + length); // the first part has the table and, as a rule, the description
    at += 2 + length;
  }
  return icc;
}

function webp(bytes, view, facts) {
  facts.format = "WebP";
  const kind = ascii(bytes, 12, 4);
  if (kind === "VP8 ") {
    facts.alpha = false;
    facts.width = view.getUint16(26, true) & 0x3fff;
    facts.height = view.getUint16(28, true) & 0x3fff;
    return null;
  }
  if (kind === "VP8L") {
    const packed = view.getUint32(21, true);
    facts.width = (packed & 0x3fff) + 1;
    facts.height = ((packed >>> 14) & 0x3fff) + 1;
    return null;
  }
  if (kind !== "VP8X") return null;
  facts.alpha = (bytes[20] & 0x10) !== 0;
  facts.animated = (bytes[20] & 0x02) !== 0;
  facts.width = (view.getUint32(24, true) & 0xffffff) + 1;
  facts.height = (view.getUint32(26, true) >>> 8) + 1;
  if ((bytes[20] & 0x20) === 0 || ascii(bytes, 30, 4) !== "ICCP") return null;
  return bytes.subarray(38, 38 + view.getUint32(34, true));
}

function gif(bytes, view, facts) {
  facts.format = "GIF";
  facts.width = view.getUint16(6, true);
  facts.height = view.getUint16(8, true);
  let pictures = 0;
  for (let at = 13 + palette(bytes[10]); at < bytes.length && bytes[at] !== 0x3b; ) {
    if (bytes[at] === 0x2c) {
      if (++pictures > 1) break;
      at += 11 + palette(bytes[at + 9]); // and the byte before the blocks
    } else at += 2; // an extension and its kind
    while (at < bytes.length && bytes[at] !== 0) at += 1 + bytes[at];
    at++;
  }
  facts.animated = pictures > 1 || ascii(bytes, 0, HEADER_BYTES_OF_GIF).includes("NETSCAPE2.0");
}

const palette = (flags) => ((flags & 0x80) === 0 ? 0 : 3 << ((flags & 7) + 1));
const HEADER_BYTES_OF_GIF = 1024; // header, a palette of 768 bytes, and the block that makes it a loop

function bmp(view, facts) {
  facts.format = "BMP";
  facts.width = Math.abs(view.getInt32(18, true));
  facts.height = Math.abs(view.getInt32(22, true));
}

/** AVIF and HEIC, by the properties of their largest picture. */
function heif(bytes, view, facts) {
  const brand = ascii(bytes, 8, 4);
  facts.format = brand.startsWith("avi") ? "AVIF" : "HEIF";
  facts.animated = brand === "avis" || brand === "msf1";
  let icc = null;
  for (let at = 8; at + 20 <= Math.min(bytes.length, 1 << 16); at++) {
    const kind = ascii(bytes, at, 4);
    if (kind === "ispe") {
      const [width, height] = [view.getUint32(at + 8), view.getUint32(at + 12)];
      if (width * height > (facts.width ?? 0) * (facts.height ?? 0)) Object.assign(facts, { width, height });
    } else if (kind === "pixi" && bytes[at + 9] > facts.bits) facts.bits = bytes[at + 9];
    else if (kind === "colr" && ascii(bytes, at + 4, 4) === "nclx") nameCodes(view.getUint16(at + 8), facts);
    else if (kind === "colr" && ascii(bytes, at + 4, 4) === "prof") icc = bytes.subarray(at + 8, at - 4 + view.getUint32(at - 4));
  }
  return icc;
}

/** Colours by the number of their primaries in ITU-T H.273. */
function nameCodes(primaries, facts) {
  if (primaries === 11 || primaries === 12) Object.assign(facts, { colours: "p3", profile: "Display P3" });
  else if (primaries === 9) Object.assign(facts, { colours: "other", profile: "BT.2020" });
}

function nameColours(icc, facts) {
  let name = "";
  try {
    name = description(icc);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  facts.profile = name;
  facts.colours = /srgb|61966/i.test(name) ? "srgb" : /\bp3\b/i.test(name) ? "p3" : "other";
}

/** The description in an ICC profile, of version 2 or 4. */
function description(icc) {
  const view = new DataView(icc.buffer, icc.byteOffset, icc.byteLength);
  const tags = Math.min(view.getUint32(128), 100);
  for (let index = 0; index < tags; index++) {
    if (ascii(icc, 132 + 12 * index, 4) !== "desc") continue;
    const at = view.getUint32(136 + 12 * index);
    if (ascii(icc, at, 4) === "desc") return plain(ascii(icc, at + 12, Math.min(view.getUint32(at + 8), 100)));
    const length = Math.min(view.getUint32(at + 20), 200);
    const start = at + view.getUint32(at + 24);
    return plain(new TextDecoder("utf-16be").decode(icc.subarray(start, start + length)));
  }
  return "";
}

const plain = (text) => text.replace(/[^\p{L}\p{N}\p{P}\p{S} ]/gu, "").trim();

/** Inflate the beginning of a zlib stream, at most LARGEST_PROFILE bytes. */
async function inflate(packed) {
  const parts = [];
  let length = 0;
  try {
    const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      length += part.value.length;
      if (length > LARGEST_PROFILE) {
        await reader.cancel();
        break;
      }
    }
  } catch {
    return null; // damaged: the decoder ignores it, too
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
