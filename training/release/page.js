"use strict";
// The page is whole without this: it adds filters and copy buttons, and asks the network for nothing.
const filters = document.getElementById("filters");
const cards = [...document.querySelectorAll("article")];
const told = document.getElementById("shown");

function filter() {
  const wanted = [...filters.querySelectorAll("select")].filter((select) => select.value);
  const words = document.getElementById("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const card of cards) {
    const text = card.dataset.words;
    card.hidden =
      wanted.some((select) => card.dataset[select.name] !== select.value) || words.some((word) => !text.includes(word));
    shown += card.hidden ? 0 : 1;
  }
  told.textContent = `${shown} of ${cards.length} shown`;
  document.getElementById("none").hidden = shown > 0;
}

async function copy(button) {
  const code = document.getElementById(button.dataset.copies);
  let done = true;
  try {
    await navigator.clipboard.writeText(code.textContent);
  } catch {
    // No clipboard outside https and files: select the line, and let the browser copy the selection.
    const selection = window.getSelection();
    selection.selectAllChildren(code);
    done = document.execCommand("copy");
  }
  button.textContent = done ? "Copied" : "Press Ctrl+C";
  setTimeout(() => (button.textContent = "Copy"), 2000);
}

filters.addEventListener("input", filter);
filters.addEventListener("reset", () => setTimeout(filter));
filters.addEventListener("submit", (event) => event.preventDefault());
for (const button of document.querySelectorAll("button[data-copies]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}
filters.hidden = false;
filter();
