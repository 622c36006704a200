"use strict";
const form = document.querySelector("form");
const button = form.querySelector("button");
const told = document.getElementById("told");
const answers = document.getElementById("answers");

function show(predictions) {
  const rows = predictions.map(({ label, score }) => {
    const row = document.createElement("li");
    const percent = `${(100 * score).toFixed(1)}%`;
    for (const [name, text] of [["bar", ""], ["label", label], ["score", percent]]) {
      const part = document.createElement("span");
      part.className = name;
      part.textContent = text;
      row.append(part);
    }
    row.firstChild.style.width = percent;
    return row;
  });
  answers.replaceChildren(...rows);
}

async function ask() {
  const texts = Object.fromEntries([...form.querySelectorAll("textarea")].map((area) => [area.name, area.value]));
  const request = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ inputs: texts }) };
  button.disabled = true;
  told.className = "quiet";
  told.textContent = "…";
  try {
    const began = performance.now();
    const response = await fetch("predict", request);
    const content = await response.json();
    if (!response.ok) throw new Error(content.error);
    show(content);
    const unsure = content[0].score < Number(form.dataset.least) ? " · it abstains: too unsure to answer" : "";
    told.textContent = `${Math.round(performance.now() - began)} ms${unsure}`;
  } catch (error) {
    answers.replaceChildren();
    told.className = "bad";
    told.textContent = error.message;
  } finally {
    button.disabled = false;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
