// node --import plain.mjs …: as browsers without relaxed SIMD, which find f32x4.relaxed_madd invalid.

const { validate } = WebAssembly;
WebAssembly.validate = (code) => !code.join().includes("253,133,2,") && validate(code);
