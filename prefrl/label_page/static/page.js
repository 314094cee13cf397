"use strict";
// One question is on the screen, the next are ready beside it. An answer shows the next question at once and waits in
// an outbox, which outlives the page, until the server says that it is on disk.

const $ = (id) => document.getElementById(id);
const keep = {
  get: (name) => { try { return localStorage.getItem(`prefrl ${name}`); } catch { return null; } },
  set: (name, value) => { try { localStorage.setItem(`prefrl ${name}`, value); } catch { /* private window */ } },
};
const AHEAD = 3, BEAT = 30_000, PAUSE = 350, SPEEDS = [1, 0.5, 0.25];

let token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) history.replaceState(null, "", location.pathname); // not for the address bar, nor for the history
let queue = [];           // questions that are mine, the first on the screen
let outbox = JSON.parse(keep.get("outbox") || "[]");
let state = {}, mine = 0, times = [], speed = 0, shown = null, shownAt = 0, sending = false, asking = false, named = false;

class Refused extends Error { constructor(status, text) { super(text); this.status = status; } }

async function call(path, body) {
  const headers = { ...(body && { "content-type": "application/json" }), ...(token && { authorization: `Bearer ${token}` }) };
  const reply = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  const said = await reply.json().catch(() => ({ error: "the server's reply cannot be read." }));
  if (reply.ok) return said;
  if (reply.status === 401 && path !== "/api/hello" && named) { // the server was started anew: say the name again
    named = false;
    if (await hello(keep.get("name"))) return call(path, body);
  }
  throw new Refused(reply.status, said.error || `the server said ${reply.status}.`);
}

// Who is here

async function hello(name) {
  try {
    const said = await call("/api/hello", { name });
    named = true;
    keep.set("name", said.name);
    state = said;
    document.title = `prefrl · ${said.title}`;
    $("title").textContent = said.title;
    $("instruction").textContent = said.instruction;
    $("who").textContent = said.name;
    $("who").hidden = false;
    return true;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    $("token-label").hidden = !(error.status === 401);
    $("hello-error").textContent = name ? error.message : "";
    if (!$("hello").open) $("hello").showModal();
    return false;
  }
}

$("hello").addEventListener("cancel", (event) => event.preventDefault());
$("hello").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if ($("token").value) token = $("token").value.trim();
  if (await hello($("name").value.trim()).catch(() => false)) {
    $("hello").close();
    queue = [];
    show();
    fill();
  }
});
$("who").addEventListener("click", () => {
  $("name").value = keep.get("name") || "";
  $("hello-error").textContent = "";
  $("hello").showModal();
});

// Questions

const answered = new Set(); // by this page, and not taken back

async function fill() {
  if (asking || !named) return;
  asking = true;
  try {
    const said = await call("/api/next", { count: AHEAD });
    state = said;
    const waiting = new Set(outbox.map((item) => item.question));
    const known = new Map(queue.map((q) => [q.question, q]));
    // What was asked for before an answer went out may still hold its question when it comes back.
    const fresh = said.questions.filter((q) => !waiting.has(q.question) && !answered.has(q.question));
    const first = queue[0];
    for (const q of fresh) {
      if (known.has(q.question)) known.get(q.question).ticket = q.ticket;
      else queue.push(load(q));
    }
    const held = new Set(fresh.map((q) => q.question));
    queue = queue.filter((q) => q === first || held.has(q.question));
    trouble("");
    if (shown !== queue[0]) show();
  } catch (error) {
    trouble(error instanceof Refused ? error.message : "the server does not answer.");
  } finally {
    asking = false;
    tell();
  }
}

// Two films at a time: a browser has six connections to a server, and answers must never wait for films.
let fetching = [Promise.resolve(), Promise.resolve()];
function load(question) {
  question.films = question.clips.map((key, i) => {
    const film = fetching[i % 2].then(() => fetchFilm(key));
    fetching[i % 2] = film.catch(() => {});
    return film;
  });
  question.films.forEach((film) => film.catch(() => {}));
  return question;
}

async function fetchFilm(key) {
  for (let wait = 500; ; wait *= 2) {
    const reply = await fetch(`/clips/${key}.mp4`, token ? { headers: { authorization: `Bearer ${token}` } } : {}).catch(() => null);
    if (reply && reply.ok) return URL.createObjectURL(await reply.blob());
    if ((reply && reply.status < 500 && ![401, 429].includes(reply.status)) || wait > 8000) throw new Error("This clip cannot be shown.");
    await new Promise((later) => setTimeout(later, wait));
  }
}

const videos = ["left", "right"].map((side) => $(side).querySelector("video"));

async function show() {
  const question = shown = queue[0] || null;
  $("pair").hidden = $("actions").hidden = !question;
  $("nothing").hidden = !!question;
  document.querySelectorAll(".chosen").forEach((element) => element.classList.remove("chosen"));
  if (!question) return tell();
  shownAt = performance.now();
  videos.forEach((video) => { video.parentElement.className = "film loading"; video.removeAttribute("src"); });
  const ready = await Promise.allSettled(question.films);
  if (shown !== question) return;
  ready.forEach((film, i) => {
    const frame = videos[i].parentElement;
    frame.classList.remove("loading");
    if (film.status === "fulfilled") videos[i].src = film.value;
    else { frame.classList.add("broken"); frame.dataset.why = film.reason.message; }
  });
  shownAt = performance.now(); // a person's time begins when there is something to see
  replay();
}

// Both clips begin together, and begin again together when the longer one is over.
let over = 0;
function replay() {
  over += 1;
  for (const video of videos) {
    video.playbackRate = SPEEDS[speed];
    video.currentTime = 0;
    video.play().catch(() => {});
  }
}
for (const video of videos) {
  video.addEventListener("loadedmetadata", () => { video.playbackRate = SPEEDS[speed]; });
  video.addEventListener("ended", () => {
    const round = over;
    if (videos.every((other) => other.ended || !other.src)) setTimeout(() => round === over && replay(), PAUSE);
  });
}
(function tick() {
  const longest = videos.reduce((a, b) => ((b.duration || 0) > (a.duration || 0) ? b : a));
  $("clock").firstElementChild.style.transform = `scaleX(${longest.duration ? longest.currentTime / longest.duration : 0})`;
  requestAnimationFrame(tick);
})();

function drop(question) {
  question.films.forEach((film) => film.then(URL.revokeObjectURL, () => {}));
}

// Answers

function answer(word) {
  const question = shown;
  if (!question || question.said) return;
  question.said = word;
  answered.add(question.question);
  const seconds = Math.round(performance.now() - shownAt) / 1000;
  outbox.push({ question: question.question, ticket: question.ticket, answer: word, seconds });
  keep.set("outbox", JSON.stringify(outbox));
  times.push(Date.now());
  mine += 1;
  const pressed = document.querySelector(`[data-answer="${word}"]`);
  pressed.classList.add("chosen");
  setTimeout(() => {
    queue = queue.filter((q) => q !== question);
    setTimeout(() => drop(question), 1000);
    show();
    fill();
  }, 130); // long enough to see what was chosen
  send();
}

async function send() {
  if (sending) return;
  sending = true;
  let wait = 300;
  while (outbox.length) {
    tell();
    try {
      await call("/api/answer", outbox[0]);
    } catch (error) {
      const lost = error instanceof Refused && error.status < 500 && ![401, 429].includes(error.status);
      if (!lost) { // it is kept, and sent again
        trouble("");
        await new Promise((later) => setTimeout(later, wait));
        wait = Math.min(5000, wait * 2);
        continue;
      }
      toast(error.message);
      answered.delete(outbox[0].question);
      mine -= 1;
    }
    outbox.shift();
    keep.set("outbox", JSON.stringify(outbox));
    wait = 300;
  }
  sending = false;
  tell();
}

async function undo() {
  for (let i = 0; outbox.length && i < 30; i += 1) await new Promise((later) => setTimeout(later, 100));
  if (outbox.length) return toast("Your answers are still on their way: undo in a moment.");
  try {
    const { question } = await call("/api/undo", {});
    if (!question) return toast("There is nothing of yours to undo.");
    answered.delete(question.question);
    mine = Math.max(0, mine - 1);
    times.pop();
    const old = queue.find((q) => q.question === question.question);
    queue = [load(old ? { ...question } : question), ...queue.filter((q) => q !== old)];
    show();
    tell();
    toast("Taken back: answer this one again.");
  } catch (error) {
    toast(error.message);
  }
}

// What is said

function tell() {
  const planned = state.planned || 0, done = (state.answered || 0) + (state.skipped || 0);
  const share = planned ? Math.min(1, done / planned) : 0;
  $("bar").firstElementChild.style.width = `${100 * share}%`;
  $("bar").setAttribute("aria-valuenow", Math.round(100 * share));
  $("counts").textContent = `${done} of ${planned} answered · ${state.open || 0} open · ${mine} by you just now`;
  const recent = times.filter((time) => Date.now() - time < 120_000);
  const minutes = recent.length > 1 ? (Date.now() - recent[0]) / 60_000 : 0;
  $("rate").textContent = minutes > 0.05 ? `${Math.round((recent.length - 1) / minutes)} a minute` : "";
  $("saved").className = outbox.length ? "waiting" : "";
  $("saved").textContent = outbox.length ? `${outbox.length} kept here until the server has ${outbox.length > 1 ? "them" : "it"}` : mine ? "✓ all saved" : "";
  $("nothing-title").textContent = planned && done >= planned ? "All answered. Thank you!" : "No question is open";
  $("nothing-text").textContent = planned && done >= planned ? "" : problem || "The program asks again when it has learned a little more. Leave this page open.";
}

let problem = "", toasting = 0;
function trouble(text) { problem = text; }
function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toasting);
  toasting = setTimeout(() => { $("toast").hidden = true; }, 2600);
}

// Keys and buttons

const tall = matchMedia("(max-width: 760px) and (orientation: portrait)");
const KEYS = { ArrowLeft: "left", a: "left", 1: "left", ArrowRight: "right", d: "right", 2: "right", ArrowDown: "equal", e: "equal", ArrowUp: "cannot tell", x: "cannot tell" };
const TALL = { ArrowUp: "left", ArrowDown: "right" };
function slower() {
  speed = (speed + 1) % SPEEDS.length;
  $("slower").setAttribute("aria-pressed", speed > 0);
  $("slower").querySelector("b").textContent = speed ? `Slower ×${SPEEDS[speed]}` : "Slower";
  replay();
}
const DOES = { z: undo, Backspace: undo, s: slower, r: replay };
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.altKey || event.metaKey || $("hello").open || $("answer").hidden) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey && key !== "z") return;
  const word = (tall.matches && TALL[key]) || KEYS[key];
  if (!word && !DOES[key]) return;
  event.preventDefault();
  if (word) answer(word); else DOES[key]();
});
document.querySelectorAll("[data-answer]").forEach((button) => button.addEventListener("click", () => { button.blur(); answer(button.dataset.answer); }));
for (const [id, act] of [["undo", undo], ["slower", slower], ["again", replay]]) $(id).addEventListener("click", () => { $(id).blur(); act(); });

const THEMES = ["auto", "light", "dark"];
function theme(name) {
  document.documentElement.dataset.theme = name;
  $("theme").textContent = name[0].toUpperCase() + name.slice(1);
  keep.set("theme", name);
}
theme(keep.get("theme") || "auto");
$("theme").addEventListener("click", () => theme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3]));

// The second page

let watching = 0, seen = null;
for (const name of ["answer", "run"]) $(`tab-${name}`).addEventListener("click", () => {
  for (const other of ["answer", "run"]) {
    $(other).hidden = other !== name;
    $(`tab-${other}`).setAttribute("aria-selected", other === name);
  }
  clearInterval(watching);
  if (name === "run") { look(); watching = setInterval(look, 3000); }
});

function table(id, words, head, rows) { // the first so many columns are words, the others numbers
  $(id).replaceChildren(...[head, ...rows].map((row, number) => {
    const tr = document.createElement("tr");
    tr.append(...row.map((text, i) => {
      const cell = document.createElement(number ? "td" : "th");
      cell.textContent = text;
      if (i < words) cell.className = "text";
      return cell;
    }));
    return tr;
  }));
}

async function look() {
  try {
    const [run, who] = await Promise.all([call("/api/run"), call("/api/people")]);
    const { curves } = run;
    $("charts").replaceChildren(
      chart("Reward that is learned from the answers, a step", curves.step, [curves.learned_return], run.steps),
      chart("True return of an episode, where the task has one; nobody trains on it", curves.step, [curves.true_return], run.steps),
      chart("Questions asked, and answered (dashed)", curves.step, [curves.labels_asked, curves.labels_answered], run.steps),
      chart("Share of held-out answers that the learned reward predicts", curves.step, [curves.held_out_accuracy], run.steps),
    );
    const numbers = [["Planned", run.planned], ["Asked so far", run.asked], ["Answered", run.answered], ["Could not tell", run.skipped], ["Open", run.open], ["Taken back", run.withdrawn], ["Training", run.finished ? "finished" : curves.step.length ? `${Math.round(100 * curves.step.at(-1) / run.steps)} %` : "begins"]];
    $("numbers").replaceChildren(...numbers.flatMap(([name, value]) => ["dt", "dd"].map((tag, i) => {
      const element = document.createElement(tag);
      element.textContent = i ? value : name;
      return element;
    })));
    table("people", 1, ["name", "answers", "left", "right", "equal", "cannot tell", "seconds each"],
      who.people.map((p) => [p.name, p.answers, p.left, p.right, p.equal, p["cannot tell"], p.seconds.toFixed(1)]));
    $("kappa").replaceChildren(...who.kappa.map((k) => {
      const item = document.createElement("li");
      item.textContent = `${k.one} and ${k.other} agree with kappa ${k.kappa === null ? "undefined" : k.kappa.toFixed(2)} over ${k.questions} questions`;
      return item;
    }));
    table("newest", 3, ["when", "who", "said", "seconds", "policy's step"], who.newest.map((a) => [new Date(a.at).toLocaleTimeString(), a.name, `${{ left: "← ", right: "→ ", equal: "= ", "cannot tell": "? " }[a.answer]}${a.answer}`, a.seconds, a.step]));
    await film(run.policy);
  } catch (error) {
    toast(error.message);
  }
}

async function film(version) {
  $("no-policy").hidden = !!version;
  if (!version || version === seen) return;
  const video = $("policy").querySelector("video");
  if (!video.src) $("policy").classList.add("loading");
  seen = version;
  const reply = await fetch("/policy.mp4", token ? { headers: { authorization: `Bearer ${token}` } } : {});
  $("policy").classList.remove("loading");
  if (!reply.ok) { seen = null; return; }
  const old = video.src;
  video.src = URL.createObjectURL(await reply.blob());
  if (old) URL.revokeObjectURL(old);
}

const NS = "http://www.w3.org/2000/svg";
function draw(tag, attributes, text) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}
function short(x) {
  const size = Math.abs(x);
  return size >= 1e6 ? `${+(x / 1e6).toPrecision(3)}M` : size >= 1e4 ? `${+(x / 1e3).toPrecision(3)}k` : `${+x.toPrecision(3)}`;
}
function ticks(low, high) {
  const raw = (high - low) / 4, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((m) => m * power >= raw) * power;
  const found = [];
  for (let x = Math.ceil(low / step) * step; x <= high + step * 1e-9; x += step) found.push(x);
  return found;
}
function chart(title, x, lines, end) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption"), [w, h, l, b] = [440, 170, 44, 22];
  caption.textContent = title;
  const svg = draw("svg", { viewBox: `0 0 ${w} ${h}`, role: "img", "aria-label": title });
  figure.append(caption, svg);
  const values = lines.flat().filter((y) => y !== null && y !== undefined);
  if (!values.length) {
    svg.setAttribute("viewBox", `0 0 ${w} 48`);
    svg.append(draw("text", { x: 0, y: 26 }, "Nothing yet."));
    return figure;
  }
  let low = Math.min(...values), high = Math.max(...values);
  if (low > 0 && low < high / 2) low = 0;
  if (low === high) { low -= 1; high += 1; }
  const at = (i, y) => [l + (w - l - 8) * (x[i] / end), 10 + (h - b - 10) * (1 - (y - low) / (high - low))];
  for (const y of ticks(low, high)) {
    const [, py] = at(0, y);
    svg.append(draw("line", { x1: l, x2: w - 8, y1: py, y2: py, class: "grid" }), draw("text", { x: l - 6, y: py + 4, "text-anchor": "end" }, short(y)));
  }
  for (const share of [0, 0.5, 1]) svg.append(draw("text", { x: l + (w - l - 8) * share, y: h - 4, "text-anchor": share ? (share < 1 ? "middle" : "end") : "start" }, `${short(end * share)}${share ? "" : " steps"}`));
  lines.forEach((line, number) => {
    const points = line.map((y, i) => (y === null || y === undefined ? null : at(i, y).map((p) => p.toFixed(1)).join(","))).filter(Boolean);
    svg.append(draw("polyline", { points: points.join(" "), class: number ? "curve two" : "curve" }));
    if (!number && points.length) svg.append(draw("circle", { cx: points.at(-1).split(",")[0], cy: points.at(-1).split(",")[1], r: 3.5, class: "end" }));
  });
  return figure;
}

// Begin

(async () => {
  const name = keep.get("name");
  if (!(name && (await hello(name).catch(() => false))) && !$("hello").open) $("hello").showModal();
  if (named) { send(); await fill(); show(); }
  setInterval(() => { if (named && !queue.length) fill(); }, 1500);
  setInterval(() => { if (named) fill(); }, BEAT);
})();
