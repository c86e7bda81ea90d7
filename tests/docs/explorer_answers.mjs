// What the explorer answers, for a comparison with torch: {data, questions} in as JSON, a list of answers out.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

import { bytesOf, readSlice, readTensors } from "../../docs/explorer/files.mjs";
import { Answers } from "../../docs/explorer/questions.mjs";

const { data, questions } = JSON.parse(readFileSync(process.argv[2], "utf8"));

// The hash of all weights in single precision, by name.
function digest(tensors) {
  const hash = createHash("sha256");
  for (const name of Object.keys(tensors).sort()) {
    hash.update(Buffer.from(Float32Array.from(tensors[name].data).buffer));
  }
  return hash.digest("hex");
}

const answers = new Answers();
const digests = {};
answers.addSlices({ slices: data.slices.map(readSlice) });
for (const { name, bytes } of data.networks) {
  const tensors = readTensors(data.header, bytesOf(bytes));
  digests[name] = digest(tensors);
  answers.addNetwork({ name, tensors });
}

function answer(question) {
  const { dice, untouched } = answers.outline(question);
  const { windows, spared, hidden } = answers.maps(question);
  return { logits: [...answers.logits(question, question.protect)], dice, untouched, spared, hidden, windows };
}

process.stdout.write(JSON.stringify({ digests, answers: questions.map(answer) }));
