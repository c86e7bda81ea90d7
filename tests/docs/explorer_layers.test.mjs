// The hand-written network of docs/explorer against naive second ones: `node --test tests/docs/`.

import assert from "node:assert/strict";
import test from "node:test";

import { diceScore, heaviestWindow, touches, windowSums, withHole } from "../../docs/explorer/hole.mjs";
import { halfToNumber, readSlice } from "../../docs/explorer/files.mjs";
import { Convolution, MaxPool, Upsample, featureMap } from "../../docs/explorer/layers.mjs";
import { METHODS, saliencyMaps } from "../../docs/explorer/saliency.mjs";
import { UNet } from "../../docs/explorer/unet.mjs";

// Numbers between -1 and 1, the same at each run.
function numbers(count, seed) {
  let at = seed;
  return Float64Array.from({ length: count }, () => {
    at = (at * 16807) % 2147483647;
    return (2 * at) / 2147483647 - 1;
  });
}

function randomMap(channels, side, seed) {
  return { ...featureMap(channels, side, side), data: numbers(channels * side * side, seed) };
}

function tensor(shape, seed, change = (value) => value) {
  return { shape, data: numbers(shape.reduce((a, b) => a * b), seed).map(change) };
}

function dot(one, other) {
  return one.reduce((total, value, j) => total + value * other[j], 0);
}

function assertClose(one, other, tolerance) {
  assert.ok(Math.abs(one - other) <= tolerance, `${one} and ${other} differ by more than ${tolerance}`);
}

// Channels in and out of each block.
const PLAN = {
  "down.0": [1, 2], "down.1": [2, 4], "down.2": [4, 8], bottleneck: [8, 8],
  "up.0": [16, 8], "up.1": [12, 4], "up.2": [6, 2],
};

// The weights of a U-Net of width 2.
function tinyTensors() {
  const tensors = {};
  let seed = 1;
  const add = (name, shape, change) => (tensors[name] = tensor(shape, (seed += 977), change));
  for (const [block, [ins, outs]] of Object.entries(PLAN)) {
    for (const [at, from] of [[0, ins], [4, outs]]) {
      add(`${block}.${at}.weight`, [outs, from, 3, 3]);
      add(`${block}.${at}.bias`, [outs]);
      add(`${block}.${at + 2}.weight`, [outs], (value) => 1 + value / 2);
      add(`${block}.${at + 2}.bias`, [outs]);
      add(`${block}.${at + 2}.running_mean`, [outs]);
      add(`${block}.${at + 2}.running_var`, [outs], (value) => 1.5 + value);
    }
  }
  add("head.weight", [1, 2, 3, 3]);
  add("head.bias", [1]);
  return tensors;
}

test("a convolution is the sum it is defined as", () => {
  const [ins, outs, side] = [2, 3, 5];
  const weight = tensor([outs, ins, 3, 3], 5);
  const bias = tensor([outs], 6);
  const map = randomMap(ins, side, 7);
  const out = new Convolution({ weight, bias }).forward(map);
  const at = (channel, row, column) =>
    row < 0 || column < 0 || row >= side || column >= side ? 0 : map.data[(channel * side + row) * side + column];
  for (let to = 0; to < outs; to++) {
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        let expected = bias.data[to];
        for (let from = 0; from < ins; from++) {
          for (let k = 0; k < 9; k++) {
            const seen = at(from, row + Math.floor(k / 3) - 1, column + (k % 3) - 1);
            expected += weight.data[(to * ins + from) * 9 + k] * seen;
          }
        }
        assertClose(out.data[(to * side + row) * side + column], expected, 1e-12);
      }
    }
  }
});

// Forward and backward of a linear layer L fit together when <L x, y> = <x, L' y> for any x and y.
test("the way back of convolution, pool and upsampling is the transpose of the way forward", () => {
  const convolution = new Convolution({ weight: tensor([3, 2, 3, 3], 5), bias: tensor([3], 6, () => 0) });
  for (const layer of [convolution, new MaxPool(), new Upsample()]) {
    const x = randomMap(2, 6, 8);
    const out = layer.forward(x);
    const y = { ...out, data: numbers(out.data.length, 9) };
    assertClose(dot(out.data, y.data), dot(x.data, layer.backward(y).data), 1e-10);
  }
});

test("the gradient is what small changes of the image do to the score", () => {
  const network = new UNet(tinyTensors());
  const side = 16;
  const image = numbers(side * side, 3);
  const weights = numbers(side * side, 4).map((value) => (value > 0 ? 1 : 0));
  const score = (x) => dot(weights, network.forward(x));
  const changed = (j, by) => score(image.map((value, k) => (k === j ? value + by : value)));
  network.forward(image);
  const gradient = network.backward(weights);
  const largest = Math.max(...gradient.map(Math.abs));
  assert.ok(largest > 0.1);
  for (let j = 0; j < image.length; j += 5) {
    assertClose((changed(j, 1e-6) - changed(j, -1e-6)) / 2e-6, gradient[j], 1e-4 * largest);
  }
});

test("a guided way back differs from the plain one, and five maps come out", () => {
  const network = new UNet(tinyTensors());
  const image = numbers(256, 3);
  const target = numbers(256, 4).map((value) => (value > 0 ? 1 : 0));
  const { logits, maps } = saliencyMaps(network, image, target);
  assert.deepEqual(logits, network.forward(image));
  assert.deepEqual(Object.keys(maps), METHODS);
  for (const map of Object.values(maps)) assert.ok(map.length === 256 && map.every((value) => value >= 0));
  assert.notDeepEqual(maps.vanilla, maps.guided_backprop);
});

test("window sums, and the heaviest window under each rule, by adding up", () => {
  const [side, size] = [12, 4];
  const map = numbers(side * side, 11).map(Math.abs);
  const target = new Uint8Array(side * side);
  target[5 * side + 5] = target[6 * side + 5] = 1;
  const total = (values, row, column) => {
    let added = 0;
    for (let i = 0; i < size * size; i++) added += values[(row + Math.floor(i / size)) * side + column + (i % size)];
    return added;
  };
  for (const { row, column, sum } of windowSums(map, size)) assertClose(sum, total(map, row, column), 1e-12);
  for (const protect of ["keep", "forbid", "none"]) {
    let best = { sum: -1 };
    for (let row = 0; row <= side - size; row++) {
      for (let column = 0; column <= side - size; column++) {
        const isAllowed = protect !== "forbid" || total(target, row, column) === 0;
        const sum = total(map, row, column);
        if (isAllowed && sum > best.sum) best = { row, column, sum };
      }
    }
    const { row, column } = best;
    assert.deepEqual(heaviestWindow(map, size, target, protect), { row, column });
  }
  const twoEqual = new Float64Array(side * side);
  twoEqual[7] = twoEqual[70] = 1;
  assert.deepEqual(heaviestWindow(twoEqual, 1, target, "keep"), { row: 0, column: 7 });
  assert.equal(heaviestWindow(new Float64Array(side * side), size, target, "keep"), null);
  assert.equal(heaviestWindow(map, size, new Uint8Array(side * side).fill(1), "forbid"), null);
});

test("a hole spares the grey matter, takes it, or is refused", () => {
  const image = new Float64Array(16).fill(7);
  const target = new Uint8Array(16);
  target[5] = 1;
  const square = { row: 1, column: 1, size: 2 };
  const hidden = (protect, at) => [...withHole(image, at, target, protect)].map((value) => value === 0);
  const zeros = (protect, at = square) => [...image.keys()].filter((j) => hidden(protect, at)[j]);
  assert.deepEqual(zeros("keep"), [6, 9, 10]);
  assert.deepEqual(zeros("none"), [5, 6, 9, 10]);
  assert.deepEqual(zeros("forbid"), []);
  assert.deepEqual(zeros("forbid", { row: 2, column: 2, size: 2 }), [10, 11, 14, 15]);
  assert.deepEqual(zeros("none", null), []);
  assert.ok(touches(square, target) && !touches({ row: 2, column: 2, size: 2 }, target));
});

test("Dice by counting", () => {
  assert.equal(diceScore([1, 1, -1, -1], [1, 0, 1, 0]), 50);
  assert.equal(diceScore([1, -1], [1, 0]), 100);
  assert.ok(Number.isNaN(diceScore([-1, -1], [0, 0])));
});

test("half precision, by its definition", () => {
  const known = { 0x3c00: 1, 0xc000: -2, 0x3555: 0.333251953125, 0x0001: 2 ** -24, 0x7bff: 65504, 0xfc00: -Infinity };
  for (const [bits, value] of Object.entries(known)) assert.equal(halfToNumber(Number(bits)), value);
});

test("a slice is read as it was packed", () => {
  const pixels = Buffer.from([0, 255, 51, 102, 0, 0, 0, 0, 255]).toString("base64");
  const target = Buffer.from([0b01000001, 0b10000000]).toString("base64");
  const slice = readSlice({ low: -1, step: 0.5, pixels, target, name: "one" });
  assert.deepEqual([...slice.image], [-1, 126.5, 24.5, 50, -1, -1, -1, -1, 126.5]);
  assert.deepEqual([...slice.target], [0, 1, 0, 0, 0, 0, 0, 1, 1]);
  assert.equal(slice.name, "one");
});
