// The U-Net of ada_repro/method/unet.py, put together from the layers, with the names of its weights.

import { BatchNorm, Convolution, MaxPool, Relu, Upsample, joined, parted, sum } from "./layers.mjs";

const LEVELS = [0, 1, 2];
const BACKWARDS = [2, 1, 0];

// The tensors of one layer: those whose names begin with its own.
function tensorsOf(tensors, layer) {
  const own = {};
  for (const [name, tensor] of Object.entries(tensors)) {
    if (name.startsWith(`${layer}.`)) own[name.slice(layer.length + 1)] = tensor;
  }
  return own;
}

// Two times [convolution, ReLU, batch norm]; dropout does nothing in eval mode.
class Block {
  constructor(tensors, name) {
    this.relus = [new Relu(), new Relu()];
    this.layers = [
      new Convolution(tensorsOf(tensors, `${name}.0`)),
      this.relus[0],
      new BatchNorm(tensorsOf(tensors, `${name}.2`)),
      new Convolution(tensorsOf(tensors, `${name}.4`)),
      this.relus[1],
      new BatchNorm(tensorsOf(tensors, `${name}.6`)),
    ];
  }

  forward(map) {
    return this.layers.reduce((x, layer) => layer.forward(x), map);
  }

  backward(gradient, guided) {
    return this.layers.reduceRight((g, layer) => layer.backward(g, guided), gradient);
  }
}

export class UNet {
  constructor(tensors) {
    this.down = LEVELS.map((level) => new Block(tensors, `down.${level}`));
    this.pools = LEVELS.map(() => new MaxPool());
    this.bottleneck = new Block(tensors, "bottleneck");
    this.stretches = LEVELS.map(() => new Upsample());
    this.up = LEVELS.map((level) => new Block(tensors, `up.${level}`));
    this.head = new Convolution(tensorsOf(tensors, "head"));
  }

  // An image, a square of numbers row after row, to the logit of each pixel. The layers keep what `backward` needs.
  forward(image) {
    const side = Math.sqrt(image.length);
    let x = { data: Float64Array.from(image), channels: 1, height: side, width: side };
    const aside = [];
    for (const level of LEVELS) {
      aside.push(this.down[level].forward(x));
      x = this.pools[level].forward(aside[level]);
    }
    x = this.bottleneck.forward(x);
    for (const level of LEVELS) {
      const stretched = this.stretches[level].forward(x);
      x = this.up[level].forward(joined(stretched, aside[2 - level]));
    }
    return this.head.forward(x).data;
  }

  // The gradient of the sum of logits times `weights` with respect to the image of the last `forward`.
  backward(weights, guided = false) {
    const side = Math.sqrt(weights.length);
    let g = this.head.backward({ data: Float64Array.from(weights), channels: 1, height: side, width: side });
    const aside = [];
    for (const level of BACKWARDS) {
      const both = this.up[level].backward(g, guided);
      const below = this.stretches[level].input.channels;
      [g, aside[2 - level]] = parted(both, below);
      g = this.stretches[level].backward(g);
    }
    g = this.bottleneck.backward(g, guided);
    for (const level of BACKWARDS) {
      g = sum(this.pools[level].backward(g), aside[level]);
      g = this.down[level].backward(g, guided);
    }
    return g.data;
  }
}
