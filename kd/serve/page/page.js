"use strict";
// Translates a text with each model of a direction, one after another, so that their times can be compared.

const at = (id) => document.getElementById(id);
const names = new Intl.DisplayNames([...navigator.languages, "en"], { type: "language" });
let models = [];
let limit = Infinity;
let newest = 0; // the number of the last submission: an older one stops when a newer one begins

const nameOf = (code) => {
  try { return names.of(code); } catch { return code; }
};

function fill(select, codes) {
  const chosen = select.value;
  select.replaceChildren(...codes.map((code) => new Option(nameOf(code), code)));
  if (codes.includes(chosen)) select.value = chosen;
}

const unique = (values) => [...new Set(values)];
const fitting = () => models.filter((each) => each.source === at("source").value && each.target === at("target").value);

function targets() {
  fill(at("target"), unique(models.filter((each) => each.source === at("source").value).map((each) => each.target)));
  const back = models.some((each) => each.source === at("target").value && each.target === at("source").value);
  at("swap").hidden = !back;
  columns();
}

function columns() {
  at("results").replaceChildren(...fitting().map((model) => {
    const article = document.createElement("article");
    article.dataset.model = model.name;
    const title = document.createElement("h2");
    title.textContent = model.name;
    const facts = document.createElement("p");
    facts.className = "hint";
    facts.textContent = `${model.type}, ${model.megabytes} MB`;
    const time = document.createElement("p");
    time.className = "hint time";
    const output = document.createElement("p");
    output.className = "output";
    output.dir = "auto";
    output.lang = model.target;
    article.append(title, facts, output, time);
    return article;
  }));
}

function swap() {
  const [source, target] = [at("source").value, at("target").value];
  at("source").value = target;
  targets();
  at("target").value = source;
  targets();
}

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error || `The server answered with status ${answer.status}.`);
  return content;
}

async function translate() {
  const text = at("text").value;
  const number = ++newest;
  at("message").textContent = "";
  columns();
  if (!text.trim()) return;
  const body = { q: text, source: at("source").value, target: at("target").value, api_key: at("key").value || undefined };
  for (const model of fitting()) {
    const article = [...at("results").children].find((each) => each.dataset.model === model.name);
    const [output, time] = [article.querySelector(".output"), article.querySelector(".time")];
    time.textContent = "translating …";
    try {
      const found = await ask("translate", { ...body, model: model.name });
      if (number !== newest) return;
      output.textContent = found.translatedText;
      const { seconds, sentences } = found.kd;
      const each = (1000 * seconds) / Math.max(1, sentences);
      time.textContent = `${each.toFixed(each < 10 ? 1 : 0)} ms per sentence (${sentences})`;
    } catch (error) {
      if (number !== newest) return;
      time.textContent = "";
      at("message").textContent = error.message;
      return;
    }
  }
}

function count() {
  const length = [...at("text").value].length;
  at("count").textContent = Number.isFinite(limit) ? `${length.toLocaleString()} of ${limit.toLocaleString()} characters` : "";
  at("count").classList.toggle("over", length > limit);
}

at("form").addEventListener("submit", (event) => { event.preventDefault(); translate(); });
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); translate(); }
});
at("text").addEventListener("input", count);
at("source").addEventListener("change", targets);
at("target").addEventListener("change", targets);
at("swap").addEventListener("click", swap);

(async () => {
  try {
    const settings = await ask("frontend/settings");
    limit = settings.charLimit;
    at("key-field").hidden = !settings.keyRequired;
    models = await ask("models");
    fill(at("source"), unique(models.map((each) => each.source)));
    targets();
    count();
  } catch (error) {
    at("message").textContent = `The server cannot be reached: ${error.message}`;
  }
})();
