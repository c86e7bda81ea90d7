// What a search finds first: the entry of a name in the reference, then titles, then text.
var Scorer = {
  objNameMatch: 60,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
  // Titles that begin with what is sought come first, then those that hold it as a word, then what mentions it
  score: ([, title, , , score]) => {
    const sought = (new URLSearchParams(location.search).get("q") || "").trim().toLowerCase();
    const words = title.replace(/<[^>]*>/g, "").toLowerCase();
    const at = ` ${words.replace(/[^\w]+/g, " ")} `.indexOf(` ${sought.replace(/[^\w]+/g, " ")} `);
    if (!sought || at < 0) return score;
    return score + (at === 0 ? 40 : 15);
  },
};
