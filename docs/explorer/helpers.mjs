// A helper answers questions beside the page, in a worker, so that dragging never waits for a network.

import { Answers } from "./questions.mjs";

export class Helper {
  // `code` is the text of the worker; `done` is called with each answer.
  constructor(code, done) {
    this.done = done;
    this.told = [];
    this.asked = null;
    this.wanted = null;
    try {
      // A page opened from a file may not load a worker from a second file: it is made from text.
      this.worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
      this.worker.onmessage = ({ data }) => this.answered(data);
      this.worker.onerror = () => this.workHere();
    } catch {
      this.workHere();
    }
  }

  // Where there are no workers the page itself answers: the same answers, a less smooth drag.
  workHere() {
    this.worker = null;
    this.answers = new Answers();
    this.told.forEach((message) => this.answers.answer(message));
    if (this.asked) this.send(this.asked);
  }

  // Something to know before the questions: slices, a network.
  tell(message) {
    this.told.push(message);
    if (this.worker) this.worker.postMessage(message);
    else this.answers.answer(message);
  }

  // Of questions that come while one is being answered, only the last is still of interest.
  ask(question) {
    this.wanted = question;
    if (!this.asked) this.next();
  }

  next() {
    this.asked = this.wanted;
    this.wanted = null;
    if (this.asked) this.send(this.asked);
  }

  send(question) {
    if (this.worker) this.worker.postMessage(question);
    else setTimeout(() => this.answered(this.answers.answer(question)));
  }

  answered(answer) {
    this.asked = null;
    this.done(answer);
    this.next();
  }
}
