// The last lines of a worker: a message in, its answer out.

import { Answers } from "./questions.mjs";

const answers = new Answers();
self.onmessage = ({ data }) => {
  const answer = answers.answer(data);
  if (answer) self.postMessage(answer);
};
