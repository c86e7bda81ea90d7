// What the page asks, and the answers: the same code in a worker, in the page where there are no workers, and in tests.

import { diceScore, heaviestWindow, withHole } from "./hole.mjs";
import { METHODS, saliencyMaps } from "./saliency.mjs";
import { UNet } from "./unet.mjs";

// Two rules often leave the same image, and a square that moves back an image that was there before: that many
// answers of the networks are remembered, beside those to the untouched slices.
const REMEMBERED = 4;

function same(one, other) {
  return one.every((value, j) => value === other[j]);
}

export class Answers {
  constructor() {
    this.networks = {};
    this.slices = [];
    this.untouched = {};
    this.recent = [];
  }

  // Each message has a kind, the name of the method that answers it.
  answer(message) {
    return this[message.kind](message);
  }

  addSlices({ slices }) {
    this.slices = slices;
  }

  addNetwork({ name, tensors }) {
    this.networks[name] = new UNet(tensors);
    // A file may be opened again after it has changed.
    this.untouched = {};
    this.recent = [];
  }

  // The logits of the slice as it is, worked out once for each slice and network.
  untouchedLogits({ slice, network }) {
    const key = `${slice} ${network}`;
    this.untouched[key] ??= this.networks[network].forward(this.slices[slice].image);
    return this.untouched[key];
  }

  remember(network, image, logits) {
    this.recent.unshift({ network, image, logits });
    this.recent.length = Math.min(this.recent.length, REMEMBERED);
  }

  logits(question, protect) {
    const { image, target } = this.slices[question.slice];
    const seen = withHole(image, question.square, target, protect);
    if (same(seen, image)) return this.untouchedLogits(question);
    const known = this.recent.find(({ network, image: before }) => network === question.network && same(seen, before));
    if (known) return known.logits;
    const logits = this.networks[question.network].forward(seen);
    this.remember(question.network, seen, logits);
    return logits;
  }

  // What is wanted first: where the network sees grey matter now, and the Dice.
  outline(question) {
    const { target } = this.slices[question.slice];
    const logits = this.logits(question, question.protect);
    const found = Uint8Array.from(logits, (logit) => (logit > 0 ? 1 : 0));
    const untouched = diceScore(this.untouchedLogits(question), target);
    return { question, found, dice: diceScore(logits, target), untouched };
  }

  // What may come a moment later: the Dice with the grey matter spared and not, the maps and their windows.
  maps(question) {
    const { image, target } = this.slices[question.slice];
    const seen = withHole(image, question.square, target, question.protect);
    const { logits, maps } = saliencyMaps(this.networks[question.network], seen, target);
    this.remember(question.network, seen, logits);
    const spared = diceScore(this.logits(question, "keep"), target);
    const hidden = diceScore(this.logits(question, "none"), target);
    const windows = {};
    for (const method of METHODS) {
      windows[method] = heaviestWindow(maps[method], question.size, target, question.protect);
    }
    return { question, spared, hidden, maps, windows };
  }
}
