// From a map to a hole, and what the hole costs: ada_repro/method/mask.py and the Dice of measure/metrics.py.
// Images, maps and targets are squares of numbers, row after row; a square hole is {row, column, size}.

// Entry (row, column) is the sum above and left of that corner, so that any window is four look-ups.
function cumulated(map, side) {
  const sums = new Float64Array((side + 1) ** 2);
  for (let row = 0; row < side; row++) {
    let line = 0;
    for (let column = 0; column < side; column++) {
      line += map[row * side + column];
      const at = (row + 1) * (side + 1) + column + 1;
      sums[at] = sums[at - side - 1] + line;
    }
  }
  return sums;
}

// The sum of the map in the window at each corner, {row, column, sum}, row after row.
export function windowSums(map, size) {
  const side = Math.sqrt(map.length);
  const sums = cumulated(map, side);
  const at = (row, column) => sums[row * (side + 1) + column];
  const windows = [];
  for (let row = 0; row + size <= side; row++) {
    for (let column = 0; column + size <= side; column++) {
      const low = at(row + size, column + size) - at(row + size, column);
      const top = at(row, column + size) - at(row, column);
      windows.push({ row, column, sum: low - top });
    }
  }
  return windows;
}

// The corner of the most important window, of equals the first; null if the map is flat or nothing is allowed.
// (Training hides a random window where a map is flat; a page that answers at once shows none.)
export function heaviestWindow(map, size, target, protect) {
  const windows = windowSums(map, size);
  const weights = windows.map((window) => window.sum);
  const top = Math.max(...weights);
  const isFlat = top <= 0 || top === Math.min(...weights);
  if (isFlat) return null;
  const touching = protect === "forbid" ? windowSums(target, size) : null;
  let best = null;
  windows.forEach((window, j) => {
    const allowed = touching === null || touching[j].sum < 0.5;
    if (allowed && (best === null || window.sum > best.sum)) best = window;
  });
  return best && { row: best.row, column: best.column };
}

// Calls `visit` for each pixel of the square.
function eachPixel(square, side, visit) {
  for (let row = square.row; row < square.row + square.size; row++) {
    for (let column = square.column; column < square.column + square.size; column++) {
      visit(row * side + column);
    }
  }
}

export function touches(square, target) {
  let found = false;
  eachPixel(square, Math.sqrt(target.length), (j) => {
    if (target[j]) found = true;
  });
  return found;
}

// The image with zeros, the mean of a slice, in the square. `keep` spares the grey matter, `none` spares nothing,
// `forbid` hides nothing when the square holds grey matter.
export function withHole(image, square, target, protect) {
  const out = image.slice();
  if (square === null || (protect === "forbid" && touches(square, target))) return out;
  eachPixel(square, Math.sqrt(image.length), (j) => {
    if (protect !== "keep" || !target[j]) out[j] = 0;
  });
  return out;
}

// 0 to 100; NaN where neither holds a pixel.
export function diceScore(logits, target) {
  let common = 0;
  let both = 0;
  for (let j = 0; j < target.length; j++) {
    const found = logits[j] > 0 ? 1 : 0;
    common += found * target[j];
    both += found + target[j];
  }
  return (200 * common) / both;
}
