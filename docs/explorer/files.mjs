// From what lies in the page, or in a file of the reader's, to numbers.

export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

// IEEE half precision: a sign, five bits of exponent, ten of fraction.
export function halfToNumber(bits) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  if (exponent === 0) return sign * 2 ** -14 * fraction;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * 2 ** (exponent - 15) * (1 + fraction);
}

const READERS = {
  F16: { bytes: 2, read: (view, at) => halfToNumber(view.getUint16(at, true)) },
  F32: { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
};

function readTensor({ dtype, shape, data_offsets: [start, end] }, bytes) {
  const { bytes: step, read } = READERS[dtype];
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, end - start);
  const data = Float64Array.from({ length: (end - start) / step }, (_, j) => read(view, j * step));
  return { shape, data };
}

// The tensors of a safetensors file, from its header and the bytes behind it; counters, which are integers, are
// left out.
export function readTensors(header, bytes) {
  const tensors = {};
  for (const [name, entry] of Object.entries(header)) {
    if (entry.dtype in READERS) tensors[name] = readTensor(entry, bytes);
  }
  return tensors;
}

// A safetensors file begins with the length of its header, eight bytes.
export function readSafetensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  return readTensors(header, new Uint8Array(buffer, 8 + length));
}

// An image in 256 steps between its least and its largest value; a target of eight pixels a byte.
export function readSlice({ low, step, pixels, target, ...about }) {
  const bits = bytesOf(target);
  const levels = bytesOf(pixels);
  return {
    ...about,
    image: Float32Array.from(levels, (level) => low + step * level),
    target: Uint8Array.from(levels, (_, j) => (bits[j >> 3] >> (7 - (j & 7))) & 1),
  };
}
