// The layers of ada_repro/method/unet.py in eval mode, each forward and backward, in plain JavaScript.
// A feature map is {data, channels, height, width}; its data run channel after channel, row after row.
// `backward` takes the gradient of a number with respect to a layer's output and gives that to its input.

export function featureMap(channels, height, width) {
  return { data: new Float64Array(channels * height * width), channels, height, width };
}

function likeIt(map) {
  return featureMap(map.channels, map.height, map.width);
}

// A border of one zero around each channel, so that the convolution needs no special case at the edges.
function padded(map) {
  const { data, channels, height, width } = map;
  const out = featureMap(channels, height + 2, width + 2);
  for (let channel = 0; channel < channels; channel++) {
    for (let row = 0; row < height; row++) {
      const from = (channel * height + row) * width;
      const to = (channel * out.height + row + 1) * out.width + 1;
      out.data.set(data.subarray(from, from + width), to);
    }
  }
  return out;
}

// Adds one channel, seen through nine weights, to one channel of `out`. Nearly all time is spent here: the
// weights and the six pixels that the next step needs again stay in local variables.
function addFiltered(out, outChannel, input, inChannel, weights, first) {
  const [a, b, c, d, e, f, g, h, i] = weights.subarray(first, first + 9);
  const { data, width } = input;
  for (let row = 0; row < out.height; row++) {
    let top = (inChannel * input.height + row) * width;
    let mid = top + width;
    let low = mid + width;
    let to = (outChannel * out.height + row) * out.width;
    const end = to + out.width;
    let top0 = data[top++], top1 = data[top++];
    let mid0 = data[mid++], mid1 = data[mid++];
    let low0 = data[low++], low1 = data[low++];
    while (to < end) {
      const top2 = data[top++], mid2 = data[mid++], low2 = data[low++];
      out.data[to++] +=
        a * top0 + b * top1 + c * top2 + d * mid0 + e * mid1 + f * mid2 + g * low0 + h * low1 + i * low2;
      top0 = top1; top1 = top2;
      mid0 = mid1; mid1 = mid2;
      low0 = low1; low1 = low2;
    }
  }
}

function convolve(map, weights, outChannels) {
  const input = padded(map);
  const out = featureMap(outChannels, map.height, map.width);
  for (let to = 0; to < outChannels; to++) {
    for (let from = 0; from < map.channels; from++) {
      addFiltered(out, to, input, from, weights, (to * map.channels + from) * 9);
    }
  }
  return out;
}

// The weights of the way back: inputs and outputs change places, and each filter is turned by half a turn.
function turned(weights, outs, ins) {
  const back = new Float64Array(weights.length);
  for (let to = 0; to < outs; to++) {
    for (let from = 0; from < ins; from++) {
      for (let k = 0; k < 9; k++) {
        back[(from * outs + to) * 9 + 8 - k] = weights[(to * ins + from) * 9 + k];
      }
    }
  }
  return back;
}

// 3x3, stride 1, one pixel of zeros around.
export class Convolution {
  constructor({ weight, bias }) {
    [this.outs, this.ins] = weight.shape;
    this.weights = weight.data;
    this.turned = turned(this.weights, this.outs, this.ins);
    this.bias = bias.data;
  }

  forward(map) {
    const out = convolve(map, this.weights, this.outs);
    const pixels = out.height * out.width;
    for (let j = 0; j < out.data.length; j++) out.data[j] += this.bias[Math.floor(j / pixels)];
    return out;
  }

  backward(gradient) {
    return convolve(gradient, this.turned, this.ins);
  }
}

export class Relu {
  forward(map) {
    this.output = likeIt(map);
    for (let j = 0; j < map.data.length; j++) this.output.data[j] = Math.max(0, map.data[j]);
    return this.output;
  }

  // Guided backprop passes only what is positive, forward and backward.
  backward(gradient, guided) {
    this.gradient = gradient;
    const out = likeIt(gradient);
    for (let j = 0; j < out.data.length; j++) {
      const passes = this.output.data[j] > 0 && !(guided && gradient.data[j] < 0);
      if (passes) out.data[j] = gradient.data[j];
    }
    return out;
  }
}

// In eval mode a batch norm multiplies each channel by a number and adds one.
export class BatchNorm {
  constructor({ weight, bias, running_mean: mean, running_var: variance }) {
    this.scale = weight.data.map((w, channel) => w / Math.sqrt(variance.data[channel] + 1e-5));
    this.shift = bias.data.map((b, channel) => b - mean.data[channel] * this.scale[channel]);
  }

  forward(map) {
    return this.scaled(map, this.shift);
  }

  backward(gradient) {
    return this.scaled(gradient, new Float64Array(gradient.channels));
  }

  scaled(map, shift) {
    const out = likeIt(map);
    const pixels = map.height * map.width;
    for (let channel = 0; channel < map.channels; channel++) {
      for (let j = channel * pixels; j < (channel + 1) * pixels; j++) {
        out.data[j] = map.data[j] * this.scale[channel] + shift[channel];
      }
    }
    return out;
  }
}

// The largest of each 2x2 pixels; of equals the first, as in torch.
export class MaxPool {
  forward(map) {
    const { data, channels, height, width } = map;
    const out = featureMap(channels, height / 2, width / 2);
    this.input = map;
    this.chosen = new Int32Array(out.data.length);
    for (let to = 0; to < out.data.length; to++) {
      // Rows of all channels follow one another, so one count of rows is enough.
      const row = Math.floor(to / out.width);
      const corner = 2 * row * width + 2 * (to % out.width);
      let best = corner;
      for (const j of [corner + 1, corner + width, corner + width + 1]) {
        if (data[j] > data[best]) best = j;
      }
      this.chosen[to] = best;
      out.data[to] = data[best];
    }
    return out;
  }

  backward(gradient) {
    const out = likeIt(this.input);
    for (let j = 0; j < gradient.data.length; j++) out.data[this.chosen[j]] += gradient.data[j];
    return out;
  }
}

// Where each of `many` new pixels lies among `few` old ones: between `first` and `second`, by `share`.
function places(few, many, position) {
  return Array.from({ length: many }, (_, j) => {
    const at = Math.max(0, position(j));
    const first = Math.min(Math.floor(at), few - 1);
    return { first, second: Math.min(first + 1, few - 1), share: at - first };
  });
}

// torch's align_corners=True: the outermost pixels stay where they are.
export function cornerPlaces(few, many) {
  return places(few, many, (j) => (j * (few - 1)) / (many - 1));
}

// torch's align_corners=False: pixels are squares, and the outermost edges stay where they are.
export function edgePlaces(few, many) {
  return places(few, many, (j) => ((j + 0.5) * few) / many - 0.5);
}

// Calls `visit(new pixel, old pixel, weight)` for each of the four old pixels that a new pixel is mixed from.
function eachMixture(map, rows, columns, visit) {
  let to = 0;
  for (let channel = 0; channel < map.channels; channel++) {
    for (const row of rows) {
      const top = (channel * map.height + row.first) * map.width;
      const low = (channel * map.height + row.second) * map.width;
      for (const column of columns) {
        visit(to, top + column.first, (1 - row.share) * (1 - column.share));
        visit(to, top + column.second, (1 - row.share) * column.share);
        visit(to, low + column.first, row.share * (1 - column.share));
        visit(to, low + column.second, row.share * column.share);
        to++;
      }
    }
  }
}

export function interpolate(map, rows, columns) {
  const out = featureMap(map.channels, rows.length, columns.length);
  eachMixture(map, rows, columns, (to, from, weight) => {
    out.data[to] += weight * map.data[from];
  });
  return out;
}

// Twice the side, bilinear.
export class Upsample {
  forward(map) {
    this.input = map;
    this.rows = cornerPlaces(map.height, 2 * map.height);
    this.columns = cornerPlaces(map.width, 2 * map.width);
    return interpolate(map, this.rows, this.columns);
  }

  backward(gradient) {
    const out = likeIt(this.input);
    eachMixture(out, this.rows, this.columns, (to, from, weight) => {
      out.data[from] += weight * gradient.data[to];
    });
    return out;
  }
}

export function joined(one, other) {
  const out = featureMap(one.channels + other.channels, one.height, one.width);
  out.data.set(one.data);
  out.data.set(other.data, one.data.length);
  return out;
}

export function parted(map, channels) {
  const { height, width } = map;
  const cut = channels * height * width;
  return [
    { data: map.data.subarray(0, cut), channels, height, width },
    { data: map.data.subarray(cut), channels: map.channels - channels, height, width },
  ];
}

export function sum(one, other) {
  const out = likeIt(one);
  for (let j = 0; j < out.data.length; j++) out.data[j] = one.data[j] + other.data[j];
  return out;
}
