// Small comforts; every page works without them. No inline script anywhere.
"use strict";

// One box in the head of a table ticks the rows of the page; the number ticked is shown.
function countTicks(form) {
  const boxes = form.querySelectorAll("input[name=company]");
  const ticked = Array.from(boxes).filter((box) => box.checked).length;
  const all = form.querySelector("[data-tick-page]");
  if (all) {
    all.checked = boxes.length > 0 && ticked === boxes.length;
    all.indeterminate = ticked > 0 && ticked < boxes.length;
  }
  for (const place of form.querySelectorAll("[data-ticked]")) place.textContent = ticked;
}

document.addEventListener("change", (event) => {
  const box = event.target;
  const form = box.closest && box.closest("form[data-ticks]");
  if (!form) return;
  if (box.matches("[data-tick-page]")) {
    for (const row of form.querySelectorAll("input[name=company]")) row.checked = box.checked;
  }
  countTicks(form);
});

function countAll() {
  document.querySelectorAll("form[data-ticks]").forEach(countTicks);
}
document.addEventListener("DOMContentLoaded", countAll);
document.addEventListener("htmx:afterSettle", countAll);

// A form that starts something is sent once, whatever the finger does. (The server knows, too.)
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-once]")) return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("[data-once]")) delete form.dataset.sent;
});
