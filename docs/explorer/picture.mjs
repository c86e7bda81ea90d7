// Canvases: greys, maps, outlines, squares. Everything is drawn in pixels of the slice; a canvas has several of its
// own for each, so that outlines are finer than what they surround.

const INKS = { target: "#ffb02e", found: "#35d0ff" };
// magma, in equal steps from little to much; of even growing lightness, so it reads without colour, too.
const STOPS = [
  [0, 0, 4], [28, 16, 68], [79, 18, 123], [129, 37, 129], [181, 54, 122], [229, 80, 100], [251, 135, 97],
  [254, 194, 135], [252, 253, 191],
];

export function colour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (STOPS.length - 1);
  const first = Math.min(Math.floor(at), STOPS.length - 2);
  return STOPS[first].map((value, k) => value + (at - first) * (STOPS[first + 1][k] - value));
}

// The value below which a share of all values lies.
function quantile(values, share) {
  const ordered = Float64Array.from(values).sort();
  return ordered[Math.round(share * (ordered.length - 1))];
}

// Black and white of a slice, the same with the hole and without.
export function greyRange(image) {
  return { black: quantile(image, 0.01), white: quantile(image, 0.995) };
}

export function greys(image, { black, white }) {
  return Array.from(image, (value) => {
    const grey = (255 * (value - black)) / (white - black);
    return [grey, grey, grey];
  });
}

// The brightest pixels of all are cut off, or a single one would leave the rest in the dark.
export function heat(map) {
  const most = quantile(map, 0.998) || Math.max(...map);
  return Array.from(map, (value) => colour(most > 0 ? value / most : 0));
}

// Fills the canvas with a square of colours and leaves it ready to draw in pixels of the slice. Of `side` pixels the
// view shows `span`, from `first` on, in both directions.
export function paint(canvas, colours, view) {
  const side = Math.sqrt(colours.length);
  const pixels = new ImageData(side, side);
  colours.forEach(([red, green, blue], j) => pixels.data.set([red, green, blue, 255], 4 * j));
  const small = document.createElement("canvas");
  small.width = small.height = side;
  small.getContext("2d").putImageData(pixels, 0, 0);
  const context = canvas.getContext("2d");
  context.resetTransform();
  context.imageSmoothingEnabled = false;
  context.scale(canvas.width / view.span, canvas.height / view.span);
  context.translate(-view.first, -view.first);
  context.drawImage(small, 0, 0);
  return context;
}

// The edges of pixels between what is inside and what is not.
export function outline(inside) {
  const side = Math.sqrt(inside.length);
  const path = new Path2D();
  const isInside = (row, column) =>
    row >= 0 && column >= 0 && row < side && column < side && inside[row * side + column] > 0;
  const edge = (x0, y0, x1, y1) => {
    path.moveTo(x0, y0);
    path.lineTo(x1, y1);
  };
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      if (!isInside(row, column)) continue;
      if (!isInside(row - 1, column)) edge(column, row, column + 1, row);
      if (!isInside(row + 1, column)) edge(column, row + 1, column + 1, row + 1);
      if (!isInside(row, column - 1)) edge(column, row, column, row + 1);
      if (!isInside(row, column + 1)) edge(column + 1, row, column + 1, row + 1);
    }
  }
  return path;
}

// `ink` is "target", "found", or a colour.
export function trace(context, path, ink, width) {
  context.strokeStyle = INKS[ink] ?? ink;
  context.lineWidth = width;
  context.lineCap = "round";
  context.stroke(path);
}

// A white frame with a dark one around it is seen on every ground.
export function frame(context, { row, column, size }, width, dashes = []) {
  for (const [ink, extra] of [["#000a", 2], ["#fff", 1]]) {
    context.setLineDash(ink === "#fff" ? dashes : []);
    context.strokeStyle = ink;
    context.lineWidth = width * extra;
    context.strokeRect(column, row, size, size);
  }
  context.setLineDash([]);
}
