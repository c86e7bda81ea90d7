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
  // A page or a heading whose title begins with what is sought comes before those that mention it
  score: ([, title, , , score]) => {
    const sought = (new URLSearchParams(location.search).get("q") || "").trim().toLowerCase();
    const words = title.replace(/<[^>]*>/g, "").toLowerCase();
    return sought && (words === sought || words.startsWith(sought)) && !/\w/.test(words[sought.length] || " ") ? score + 40 : score;
  },
};
