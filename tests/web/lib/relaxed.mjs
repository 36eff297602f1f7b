// node --import relaxed.mjs …: relaxed SIMD, which Node 20 has behind a flag, and later versions have anyway.

import { setFlagsFromString } from "node:v8";

setFlagsFromString("--experimental-wasm-relaxed-simd");
