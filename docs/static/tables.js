// Where a table is wider than its place, each row becomes a card: its first cell a title, the others under the names of their columns.
"use strict";

function headsOf(table) {
  const rows = [...table.querySelectorAll("thead tr")];
  return rows.length === 1 ? [...rows[0].cells].map((cell) => cell.textContent.trim()) : [];
}

function label(table, heads) {
  for (const row of table.querySelectorAll("tbody tr")) {
    [...row.cells].forEach((cell, i) => cell.setAttribute("data-head", heads[i] || ""));
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

addEventListener("DOMContentLoaded", arrange);
addEventListener("load", arrange);
addEventListener("resize", arrange);
