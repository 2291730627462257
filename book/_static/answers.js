// The answer browser: filters over the JSON that a page holds. Texts are shown as text, never as HTML.
"use strict";

document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("div.answers").forEach(browse));

function browse(root) {
  const STEP = 20;
  const FILTERS = { scale: "Scale", arm: "Arm", seed: "Seed", kind: "Requests", category: "Category", outcome: "Outcome" };
  const data = JSON.parse(root.querySelector("script").textContent);
  const rows = data.runs.flatMap((run, place) =>
    run.rows.map(([request, answer, outcome]) => {
      const [kind, category, user] = data.requests[request];
      const [name, colour] = data.outcomes[outcome];
      const of = { scale: run.scale, arm: run.arm, seed: String(run.seed), kind, category, outcome: name };
      return { of, request, place, user, answer: data.answers[answer], colour };
    }),
  );
  // the same request's answers by all arms and seeds stand together
  const scales = [...new Set(data.runs.map((run) => run.scale))];
  rows.sort(
    (a, b) => scales.indexOf(a.of.scale) - scales.indexOf(b.of.scale) || a.request - b.request || a.place - b.place,
  );

  function make(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  const selects = {};
  const form = make("form", { className: "answers-filters" });
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const [field, title] of Object.entries(FILTERS)) {
    selects[field] = make("select", { name: field });
    const values = [...new Set(rows.map((row) => row.of[field]))];
    if (field === "seed") values.sort((a, b) => a - b);
    for (const value of ["", ...values]) selects[field].append(make("option", { value }));
    form.append(make("label", {}, make("span", { textContent: title }), selects[field]));
  }
  const words = make("input", { type: "search", name: "words", autocomplete: "off" });
  form.append(make("label", {}, make("span", { textContent: "Words" }), words));
  form.append(make("button", { type: "reset", textContent: "Show all" }));
  const status = make("p", { className: "answers-status" });
  status.setAttribute("role", "status");
  const list = make("ol", { className: "answers-list" });
  const more = make("button", { type: "button", className: "answers-more" });

  let found = [];

  function matching(without) {
    const asked = Object.entries(selects).filter(([field, select]) => field !== without && select.value);
    const text = words.value.trim().toLowerCase();
    return rows.filter(
      (row) =>
        asked.every(([field, select]) => row.of[field] === select.value) &&
        (!text || `${row.user}\n${row.answer}`.toLowerCase().includes(text)),
    );
  }

  function item(row) {
    const { scale, arm, seed, kind, category, outcome } = row.of;
    const badge = make("span", { className: "answers-outcome", textContent: outcome });
    badge.style.setProperty("--outcome", row.colour);
    const where = [scale, arm, `seed ${seed}`, `${kind}: ${category}`].join(" · ");
    const line = (name, text) =>
      make(
        "p",
        { className: `answers-${name}` },
        make("span", { className: "answers-who", textContent: name }),
        text ? make("span", { textContent: text }) : make("em", { textContent: "(empty)" }),
      );
    const about = make("p", { className: "answers-about" }, badge, ` ${where}`);
    return make("li", { tabIndex: -1 }, about, line("request", row.user), line("answer", row.answer));
  }

  function extend() {
    const first = list.children.length;
    list.append(...found.slice(first, first + STEP).map(item));
    const left = found.length - list.children.length;
    more.hidden = !left;
    more.textContent = `Show ${Math.min(STEP, left)} more`;
    return list.children[first];
  }

  function update() {
    found = matching();
    for (const [field, select] of Object.entries(selects)) {
      const counts = new Map();
      for (const row of matching(field)) counts.set(row.of[field], (counts.get(row.of[field]) ?? 0) + 1);
      for (const option of select.options) {
        const count = counts.get(option.value) ?? 0;
        option.textContent = option.value ? `${option.value} (${count.toLocaleString("en")})` : "all";
        option.disabled = option.value !== "" && !count && !option.selected;
      }
    }
    const [some, all] = [found.length, rows.length].map((count) => count.toLocaleString("en"));
    status.textContent = `${some} of ${all} answers`;
    list.replaceChildren();
    extend();
  }

  form.addEventListener("input", update);
  form.addEventListener("reset", () => setTimeout(update));
  more.addEventListener("click", () => extend().focus());
  root.querySelector("p").remove();
  root.append(form, status, list, more);
  update();
}
