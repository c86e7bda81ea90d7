// The paper's five methods, as in ada_repro/method/saliency.py: what is asked is the sum of the logits over the
// grey matter, and a map is the absolute value of the answer. One way forward and two back serve all five.

import { edgePlaces, featureMap, interpolate } from "./layers.mjs";

export const METHODS = ["vanilla", "input_x_gradient", "guided_backprop", "gradcam", "guided_gradcam"];

// The feature maps of the bottleneck, each weighted by its mean gradient; the positive part, as large as the image.
function gradcam(network, side) {
  const relu = network.bottleneck.relus[1];
  const { data, channels, height, width } = relu.output;
  const pixels = height * width;
  const small = featureMap(1, height, width);
  for (let channel = 0; channel < channels; channel++) {
    const first = channel * pixels;
    const gradients = relu.gradient.data.subarray(first, first + pixels);
    const weight = gradients.reduce((total, g) => total + g, 0) / pixels;
    for (let j = 0; j < pixels; j++) small.data[j] += weight * data[first + j];
  }
  small.data = small.data.map((value) => Math.max(0, value));
  return interpolate(small, edgePlaces(height, side), edgePlaces(width, side)).data;
}

function absoluteProduct(one, other) {
  return one.map((value, j) => Math.abs(value * other[j]));
}

// The maps of all five methods for one image, and the logits on which they rest.
export function saliencyMaps(network, image, target) {
  const logits = network.forward(image);
  const gradient = network.backward(target);
  // GradCam reads what the way back has just left in the network, so before the guided way back.
  const cam = gradcam(network, Math.sqrt(image.length));
  const guided = network.backward(target, true);
  const maps = {
    vanilla: gradient.map(Math.abs),
    input_x_gradient: absoluteProduct(gradient, image),
    guided_backprop: guided.map(Math.abs),
    gradcam: cam,
    guided_gradcam: absoluteProduct(guided, cam),
  };
  return { logits, maps };
}
