"use strict";
const about = JSON.parse(document.getElementById("about").textContent);
const form = document.getElementById("settings");
const results = document.getElementById("results");
const said = document.getElementById("said");
const field = form.elements;
const TURNS = "every class in turn";
let running = [];
let saying = 0;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function chosen() {
  const boxes = [...document.querySelectorAll("#models input:checked")];
  return about.models.filter((model) => boxes.some((box) => box.value === model.name));
}

function autoguided(model) {
  return model.autoguidance && field.autoguidance.checked;
}

function say(text) {
  clearTimeout(saying);
  saying = setTimeout(() => { said.textContent = text; }, 200);
}

/* Controls */

function build() {
  const models = document.getElementById("models");
  for (const model of about.models) {
    const box = element("input", { type: "checkbox", value: model.name });
    box.name = "model";
    models.append(element("label", { className: "check" }, box, `${model.name}: ${model.summary}`));
  }
  for (const name of about.samplers) field.sampler.append(element("option", {}, name));
  field.steps.max = about.limits.steps;
  field.count.max = about.limits.count;
  for (const name of ["from", "to"]) {
    field[name].min = about.axis[0];
    field[name].max = about.axis[1];
  }
}

function options(select, pairs) {
  const before = select.value;
  select.replaceChildren(...pairs.map(([value, text]) => element("option", { value }, text)));
  if (pairs.some(([value]) => value === before)) select.value = before;
}

function refresh() {
  const models = chosen();
  const labelled = models.find((model) => model.classes.length);
  const given = models.find((model) => model.given.length);
  const shown = {
    label: Boolean(labelled),
    prompt: models.some((model) => model.text),
    given: Boolean(given),
    base: models.some((model) => !model.student),
    autoguidance: models.some((model) => model.autoguidance),
    negative: models.some((model) => model.text && !model.student && !autoguided(model)),
  };
  for (const part of document.querySelectorAll("[data-for]")) part.hidden = !shown[part.dataset.for];
  if (labelled) {
    const names = labelled.classes.map((name, index) => [String(index), name]);
    options(field.label, [["", TURNS], ...names]);
  }
  if (given) {
    options(field.given, given.given.map((name, index) => [String(index), name]));
  }
  const from = Number(field.from.value), to = Number(field.to.value);
  const [low, high] = about.axis;
  document.getElementById("axis").hidden = !field.interval.checked;
  const part = document.querySelector(".axis .part");
  part.style.marginLeft = `${(100 * (Math.min(from, to) - low)) / (high - low)}%`;
  part.style.width = `${(100 * Math.abs(to - from)) / (high - low)}%`;
  document.getElementById("range").textContent = `${Math.min(from, to)} to ${Math.max(from, to)}`;
}

/* The address */

const PLAIN = ["label", "prompt", "given", "guidance", "negative", "sampler", "steps", "seed", "count", "from", "to"];
const CHECKS = ["interval", "autoguidance"];

function read() {
  const query = new URLSearchParams(location.search);
  const start = about.start;
  const models = query.getAll("model");
  for (const box of document.querySelectorAll("#models input")) {
    box.checked = (models.length ? models : start.models).includes(box.value);
  }
  if (!chosen().length) document.querySelector("#models input").checked = true;
  refresh();
  for (const name of PLAIN) {
    const value = query.get(name) ?? start[name];
    if (value !== undefined && value !== null) field[name].value = value;
  }
  for (const name of ["label", "given", "sampler"]) {
    if (field[name].selectedIndex < 0) field[name].selectedIndex = 0;
  }
  for (const name of CHECKS) {
    field[name].checked = query.has(name) ? query.get(name) === "1" : start[name];
  }
  refresh();
}

function write() {
  const query = new URLSearchParams();
  for (const model of chosen()) query.append("model", model.name);
  for (const name of PLAIN) {
    const part = field[name].closest("[data-for]");
    const used = (!part || !part.hidden) && (!["from", "to"].includes(name) || field.interval.checked);
    if (used && field[name].value !== "") query.set(name, field[name].value);
  }
  for (const name of CHECKS) {
    const part = field[name].closest("[data-for]");
    if (!part.hidden) query.set(name, field[name].checked ? "1" : "0");
  }
  history.replaceState(null, "", `?${query}`);
}

/* Drawing */

function request(model) {
  const asked = { model: model.name, count: Number(field.count.value), seed: Number(field.seed.value) };
  if (model.classes.length && field.label.value !== "") asked.label = Number(field.label.value);
  if (model.text) asked.prompt = field.prompt.value;
  if (model.given.length) asked.given = Number(field.given.value);
  if (model.student) return asked;
  asked.sampler = field.sampler.value;
  asked.steps = Number(field.steps.value);
  asked.guidance = Number(field.guidance.value);
  if (asked.guidance > 0) {
    if (autoguided(model)) asked.autoguidance = true;
    else if (model.text && field.negative.value) asked.negative = field.negative.value;
    if (field.interval.checked) {
      asked.interval = [Number(field.from.value), Number(field.to.value)].sort((a, b) => a - b);
    }
  }
  return asked;
}

function panel(model, asked) {
  const state = element("span");
  const bar = element("progress", { max: 1 });
  bar.setAttribute("aria-label", `progress of ${model.name}`);
  const picture = element("img", { hidden: true, alt: "" });
  const links = element("p", { className: "caption" });
  const caption = element("figcaption", {}, element("strong", {}, model.name), state);
  results.append(element("figure", {}, caption, bar, picture, links));
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  return (answer) => {
    const { event } = answer;
    if (event === "waiting") state.textContent = answer.ahead ? `waits for ${answer.ahead} other drawing(s)` : "waiting";
    if (event === "preparing") state.textContent = "compiling, or drawing the first step";
    if (event === "step") {
      state.textContent = `step ${answer.step} of ${answer.steps}`;
      bar.value = answer.step / answer.steps;
    }
    if (answer.image) {
      picture.src = still && answer.still ? answer.still : answer.image;
      picture.hidden = false;
    }
    if (event === "done") {
      state.textContent = answer.summary;
      bar.hidden = true;
      picture.alt = `${asked.count} sample(s) of ${model.name}, seed ${asked.seed}`;
      const name = `${model.name.replaceAll("/", "-")}-seed${asked.seed}.${answer.image.slice(11, 15).replace(";", "")}`;
      links.append(element("a", { href: answer.image, download: name }, "Save the picture"));
    }
    if (event === "error") {
      state.textContent = answer.message;
      state.className = "wrong";
      bar.hidden = true;
    }
    if (event !== "step") say(`${model.name}: ${state.textContent}`);
  };
}

async function draw(model, stop) {
  const asked = request(model);
  const show = panel(model, asked);
  try {
    const answer = await fetch("draw", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(asked),
      signal: stop.signal,
    });
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "", last = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (text + value).split("\n");
      text = lines.pop();
      for (const line of lines) {
        const parsed = JSON.parse(line);
        last = parsed.event;
        show(parsed);
      }
    }
    if (last !== "done" && last !== "error") throw new Error("the connection ended before the drawing");
  } catch (error) {
    show({ event: "error", message: stop.signal.aborted ? "stopped" : error.message });
  }
}

function stopAll() {
  for (const stop of running) stop.abort();
}

async function drawAll() {
  stopAll();
  write();
  results.replaceChildren();
  const mine = chosen().map(() => new AbortController());
  running = mine;
  document.getElementById("stop").disabled = false;
  await Promise.all(chosen().map((model, index) => draw(model, mine[index])));
  if (running === mine) document.getElementById("stop").disabled = true;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  drawAll();
});
form.addEventListener("input", () => {
  refresh();
  write();
});
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.tagName === "TEXTAREA" && !event.shiftKey) {
    event.preventDefault();
    form.requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stopAll();
});
document.getElementById("stop").addEventListener("click", stopAll);
document.getElementById("another").addEventListener("click", () => {
  field.seed.value = (Number(field.seed.value) + 1) % 2 ** 32;
  form.requestSubmit();
});
addEventListener("popstate", read);
build();
read();
