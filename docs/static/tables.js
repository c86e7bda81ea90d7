// Where a table is wider than a phone, each row becomes a card: its first cell a title, the others under the names of their columns.
// Where cards do not do, the table scrolls, and its edge fades as long as there is more behind it.
"use strict";

const PLACES = ".bd-article .pst-scrollable-table-container, .bd-article .output.text_html, .bd-article .picture";

// One row of heads, or two of which the second names what stands in the first column; cells over several rows make no cards.
function headsOf(table) {
  const [first, second, ...more] = [...table.querySelectorAll("thead tr")].map((row) => [...row.cells]);
  if (!first || more.length || table.querySelector("tbody [rowspan]")) return [];
  const texts = first.map((cell) => cell.textContent.trim());
  return second ? texts.map((text, i) => (second[i] ? second[i].textContent.trim() : "") || text) : texts;
}

function label(table, heads) {
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, i) => {
      cell.setAttribute("data-head", heads[i] || "");
      cell.classList.toggle("nothing", !cell.textContent.trim() && !cell.querySelector("img"));
    });
  }
}

function fits(table) {
  table.classList.remove("as-cards");
  return !table.querySelector("img") && table.scrollWidth <= table.parentElement.clientWidth + 1;
}

function arrange() {
  for (const table of document.querySelectorAll(".bd-article table")) {
    const heads = headsOf(table);
    const shown = table.offsetParent !== null;
    if (shown && heads.length > 1 && innerWidth <= 600 && !fits(table)) {
      label(table, heads);
      table.classList.add("as-cards");
    } else {
      table.classList.remove("as-cards");
    }
  }
}

function fade(place) {
  place.classList.toggle("goes-on", place.scrollLeft + place.clientWidth < place.scrollWidth - 1);
}

function fadeAll() {
  arrange();
  for (const place of document.querySelectorAll(PLACES)) {
    fade(place);
    place.onscroll = () => fade(place);
  }
}

addEventListener("DOMContentLoaded", fadeAll);
addEventListener("load", fadeAll);
addEventListener("resize", fadeAll);
