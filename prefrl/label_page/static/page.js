"use strict";
// One question is on the screen, the next are ready beside it. An answer shows the next question at once and waits in
// an outbox, which outlives the page, until the server says that it is on disk.

const $ = (id) => document.getElementById(id);
const keep = {
  get: (name) => { try { return localStorage.getItem(`prefrl ${name}`); } catch { return null; } },
  set: (name, value) => { try { localStorage.setItem(`prefrl ${name}`, value); return true; } catch { return false; } }, // full, or a private window
  drop: (name) => { try { localStorage.removeItem(`prefrl ${name}`); } catch { /* it was not there either */ } },
  names: () => { try { return Object.keys(localStorage).filter((key) => key.startsWith("prefrl ")).map((key) => key.slice(7)); } catch { return []; } },
};
const AHEAD = 3, BEAT = 30_000, PAUSE = 350, SPEEDS = [1, 0.5, 0.25];
const later = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

let token = new URLSearchParams(location.hash.slice(1)).get("token");
if (token) history.replaceState(null, "", location.pathname); // not for the address bar, nor for the history
let queue = [];           // questions that are mine, the first on the screen
let outbox = [];          // answers for this run that wait, oldest first; `gather` says so
let state = {}, mine = 0, times = [], speed = 0, shown = null, shownAt = 0, sending = false, asking = false, named = false;

class Refused extends Error { constructor(status, text) { super(text); this.status = status; } }

async function fetchJson(path, body, headers) {
  const all = { ...(body && { "content-type": "application/json" }), ...(token && { authorization: `Bearer ${token}` }), ...headers };
  const reply = await fetch(path, { method: body ? "POST" : "GET", headers: all, body: body && JSON.stringify(body) });
  const said = await reply.json().catch(() => ({ error: "the server's reply cannot be read." }));
  if (!reply.ok) throw new Refused(reply.status, said.error || `the server said ${reply.status}.`);
  return said;
}

// What this browser calls itself is one cookie for all its tabs, so every request says whose it is.
async function call(path, body, person = me) {
  const asked = run;
  for (let again = true; ; again = false) {
    if (!badges.has(person)) await meet(person);
    if (asked !== run) throw new Refused(421, "This page has another run now.");
    try {
      return await fetchJson(path, body, { "prefrl-name": badges.get(person) });
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 401 || !again) throw error;
      badges.delete(person); // the server was started anew, perhaps for another run: say the name again
    }
  }
}

// Who is here, and at which run

let run = null;           // whose answers the server takes
let me = null, called = "";
const badges = new Map(); // person: what the server wants to see from them

async function meet(person) {
  const said = await fetchJson("/api/hello", { name: person });
  badges.set(person, said.badge).set(said.name, said.badge);
  state = said;
  if (run !== said.run) {
    const before = run;
    keepOnly(() => false);
    [run, called, mine, times] = [said.run, said.called, 0, []];
    answered.clear();
    document.title = `prefrl · ${said.title}`;
    $("title").textContent = said.title;
    if (before) { toast("This page has another run now."); show(); }
  }
  $("instruction").textContent = said.instruction;
  return said;
}

async function hello(name) {
  const said = await meet(name);
  [me, named] = [said.name, true];
  keep.set("name", me);
  try { sessionStorage.setItem("prefrl name", me); } catch { /* only this tab forgets it */ }
  $("who").textContent = me;
  $("who").hidden = false;
  gather();
  tell();
}

function lastName() {
  try { return sessionStorage.getItem("prefrl name") || keep.get("name"); } catch { return keep.get("name"); }
}

function door(error) {
  if (error) $("token-label").hidden = error.status !== 401;
  $("hello-error").textContent = error ? error.message : "";
  if (!$("hello").open) $("hello").showModal();
}

$("hello").addEventListener("cancel", (event) => event.preventDefault());
$("hello").querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  if ($("token").value) token = $("token").value.trim();
  try {
    await hello($("name").value.trim());
  } catch (error) {
    return door(error instanceof Refused ? error : new Error("The server does not answer."));
  }
  $("hello").close();
  keepOnly(() => false);
  [mine, times] = [0, []];
  show();
  fill();
  send();
});
$("who").addEventListener("click", () => {
  $("name").value = me || "";
  door(null);
});

// What waits: an entry in the browser's storage for each answer, so that two tabs never write the same one. An entry is
// sent to its own run only, under its own person's name, and goes when the server has it, or when somebody throws it away.

const WORDS = ["left", "right", "equal", "cannot tell"], CHOICE = /^\d{1,3}([>=]\d{1,3})*$/, ABANDONED = 3000;
const held = new Map();   // what this page has said itself, by entry name, and may have had no room to write down
const tried = new Set();  // of an earlier version of this page, which did not say for which run; not of this one
let kept = { others: [], refused: [], broken: [], homeless: [] };

function readEntry(text) {
  const text_or_null = (value) => value === null || typeof value === "string";
  try {
    const entry = JSON.parse(text);
    const whole = typeof entry.question === "string" && typeof entry.ticket === "string" && (WORDS.includes(entry.answer) || CHOICE.test(entry.answer))
      && (entry.strength === undefined || Number.isFinite(entry.strength))
      && Number.isFinite(entry.seconds) && Number.isFinite(entry.at) && text_or_null(entry.run) && text_or_null(entry.person)
      && typeof entry.called === "string" && (entry.refused === undefined || typeof entry.refused === "string");
    return whole ? entry : null;
  } catch { return null; }
}

function writeEntry(name, entry) {
  held.set(name, entry);
  return keep.set(name, JSON.stringify(entry));
}

function entryName(entry) {
  const random = [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return ["answer", entry.run, encodeURIComponent(entry.person ?? ""), entry.question, random].join(" ");
}

function dropEntry(name) {
  held.delete(name);
  keep.drop(name);
}

// The outbox of an earlier version: one list, of whichever run.
function adopt() {
  const old = keep.get("outbox");
  let list = null;
  try { list = JSON.parse(old); } catch { /* kept as it is */ }
  if (!Array.isArray(list)) return;
  const entries = list.map((item, i) => ({ ...item, run: null, person: lastName(), called: "an earlier run", at: i }));
  if (!entries.every((entry) => readEntry(JSON.stringify(entry)))) return;
  const names = entries.map(entryName);
  if (names.every((name, i) => writeEntry(name, entries[i]))) keep.drop("outbox");
  else names.forEach(dropEntry);
}

function gather() {
  const found = new Map(), broken = [];
  for (const name of keep.names()) {
    if (name !== "outbox" && !name.startsWith("answer ")) continue;
    const entry = name === "outbox" ? null : readEntry(keep.get(name));
    if (entry) found.set(name, entry);
    else broken.push({ name, text: keep.get(name) });
  }
  const homeless = [...held.keys()].filter((name) => !found.has(name));
  for (const [name, entry] of held) found.set(name, entry);
  const all = [...found].map(([name, entry]) => ({ ...entry, name })).sort((a, b) => a.at - b.at);
  const here = (entry) => entry.run === run || (entry.run === null && !tried.has(entry.name));
  outbox = run ? all.filter((entry) => !entry.refused && here(entry)) : [];
  kept = {
    others: all.filter((entry) => !entry.refused && !(run && here(entry))),
    refused: all.filter((entry) => entry.refused),
    broken,
    homeless,
  };
}

addEventListener("storage", (event) => { // another tab of this browser
  if (event.key !== null && !event.key.startsWith("prefrl ")) return;
  const name = event.key === null ? "" : event.key.slice(7), entry = name.startsWith("answer ") && readEntry(event.newValue);
  if (name && event.newValue === null) held.delete(name);
  if (entry && held.has(name)) held.set(name, entry);
  if (entry && !entry.refused && entry.run === run && entry.person === me) {
    answered.add(entry.question);
    const said = shown && shown.said;
    keepOnly((q) => q.question !== entry.question || q.said);
    if (!said && shown !== queue[0]) { show(); fill(); }
  }
  gather();
  tell();
});
addEventListener("beforeunload", (event) => { gather(); if (kept.homeless.length) event.preventDefault(); });

// Questions

const answered = new Set(); // by this page, and not taken back

async function fill() {
  if (asking || !named) return;
  asking = true;
  try {
    const person = me, said = await call("/api/next", { count: AHEAD });
    if (me !== person) return; // these are theirs
    state = said;
    gather();
    const waiting = new Set(outbox.filter((entry) => entry.person === me).map((entry) => entry.question));
    const known = new Map(queue.map((q) => [q.question, q]));
    // What was asked for before an answer went out may still hold its question when it comes back.
    const fresh = said.questions.filter((q) => !waiting.has(q.question) && !answered.has(q.question));
    const first = queue[0];
    for (const q of fresh) {
      if (known.has(q.question)) known.get(q.question).ticket = q.ticket;
      else queue.push(load(q));
    }
    const offered = new Set(fresh.map((q) => q.question));
    keepOnly((q) => q === first || offered.has(q.question));
    trouble("");
    if (shown !== queue[0]) show();
  } catch (error) {
    if (error.status !== 421) trouble(error);
  } finally {
    asking = false;
    tell();
  }
}

// Two films at a time: a browser has six connections to a server, and answers must never wait for films.
let fetching = [Promise.resolve(), Promise.resolve()];
function load(question) {
  question.films = question.clips.map((key, i) => {
    const film = fetching[i % 2].then(() => fetchFilm(question, key));
    fetching[i % 2] = film.catch(() => {});
    return film;
  });
  question.films.forEach((film) => film.catch(() => {}));
  return question;
}

async function fetchFilm(question, key) {
  for (let wait = 500; !question.over; wait = Math.min(5000, 2 * wait)) {
    const reply = await fetch(`/clips/${key}.mp4`, token ? { headers: { authorization: `Bearer ${token}` } } : {}).catch(() => null);
    if (reply && reply.ok) return URL.createObjectURL(await reply.blob());
    if (reply && reply.status < 500 && ![401, 429].includes(reply.status)) {
      throw new Error((await reply.json().catch(() => ({}))).error || "this clip cannot be shown.");
    }
    await later(wait);
  }
  throw new Error("nobody waits for it.");
}

let undrawn = [];         // why clips of the question on the screen are not shown, each reason once
const two = ["left", "right"].map((side) => $(side).querySelector("video"));
let videos = two;         // of the question on the screen

async function show() {
  const question = shown = queue[0] || null;
  $("actions").hidden = !question;
  $("pair").hidden = !question || isSet(question);
  $("set").hidden = $("how").hidden = !isSet(question);
  $("order").hidden = $("done").hidden = !question || question.kind !== "ranking";
  $("much").hidden = !question || !state.strengths || question.kind === "ranking";
  $("more").hidden = $("done").hidden && $("much").hidden;
  much(false);
  $("nothing").hidden = !!question;
  document.querySelectorAll(".chosen").forEach((element) => element.classList.remove("chosen"));
  undrawn = [];
  tell();
  if (!question) return;
  shownAt = performance.now();
  if (isSet(question)) layOut(question);
  videos = isSet(question) ? [...$("set").querySelectorAll("video")] : two;
  if (isSet(question)) videos.forEach(watch);
  videos.forEach((video) => { video.parentElement.className = "film loading"; video.removeAttribute("src"); });
  const ready = await Promise.allSettled(question.films);
  if (shown !== question) return;
  ready.forEach((film, i) => {
    const frame = videos[i].parentElement;
    frame.classList.remove("loading");
    if (film.status === "fulfilled") videos[i].src = film.value;
    else frame.classList.add("broken");
  });
  undrawn = [...new Set(ready.flatMap((film) => (film.status === "rejected" ? [film.reason.message] : [])))];
  tell();
  shownAt = performance.now(); // a person's time begins when there is something to see
  replay();
}

// All clips begin together, and begin again together when the longer one is over.
let over = 0;
function replay() {
  over += 1;
  for (const video of videos) {
    video.playbackRate = SPEEDS[speed];
    video.currentTime = 0;
    video.play().catch(() => {});
  }
}
function watch(video) {
  video.addEventListener("loadedmetadata", () => { video.playbackRate = SPEEDS[speed]; });
  video.addEventListener("ended", () => {
    const round = over;
    if (videos.every((other) => other.ended || !other.src)) setTimeout(() => round === over && replay(), PAUSE);
  });
}
two.forEach(watch);
(function tick() {
  const longest = videos.reduce((a, b) => ((b.duration || 0) > (a.duration || 0) ? b : a));
  $("clock").firstElementChild.style.transform = `scaleX(${longest.duration ? longest.currentTime / longest.duration : 0})`;
  requestAnimationFrame(tick);
})();

function keepOnly(test) {
  queue.filter((q) => !test(q)).forEach(drop);
  queue = queue.filter(test);
}

function drop(question) {
  question.over = true;
  question.films.forEach((film) => film.then(URL.revokeObjectURL, () => {}));
}

// Answers

function answer(word) {
  const question = shown;
  if (!question || question.said) return;
  question.said = word;
  answered.add(question.question);
  const seconds = Math.round(performance.now() - shownAt) / 1000;
  const entry = { run, called, person: me, question: question.question, ticket: question.ticket, answer: word, seconds, at: Date.now() };
  const said = word === "equal" || word === "cannot tell" || word === allEqual(question) ? null : word;
  if (!$("much").hidden && said !== null) entry.strength = Number($("much").getAttribute("aria-pressed") === "true");
  writeEntry(entryName(entry), entry);
  gather();
  times.push(Date.now());
  mine += 1;
  const pressed = document.querySelector(`[data-answer="${word}"], #set [data-place="${word}"]`) || (word === allEqual(question) && document.querySelector("[data-answer=equal]")) || $("done");
  pressed.classList.add("chosen");
  setTimeout(() => {
    queue = queue.filter((q) => q !== question);
    setTimeout(() => drop(question), 1000);
    show();
    fill();
  }, 130); // long enough to see what was chosen
  send();
}

// What another tab has just said it sends itself; what a tab that is gone has left is sent from here.
function nextToSend() {
  gather();
  return outbox.find((entry) => held.has(entry.name) || Math.abs(Date.now() - entry.at) > ABANDONED);
}

async function send() {
  if (sending || !named) return;
  sending = true;
  let wait = 300;
  for (let entry = nextToSend(); entry; entry = nextToSend()) {
    tell();
    const { question, ticket, answer: word, seconds, strength } = entry;
    try {
      await call("/api/answer", { question, ticket, answer: word, seconds, ...(strength !== undefined && { strength }) }, entry.person || me);
      dropEntry(entry.name);
      wait = 300;
      trouble("");
    } catch (error) {
      if (error instanceof Refused && error.status === 421) continue; // it stays where it is, for its own run
      if (error instanceof Refused && [409, 422].includes(error.status)) {
        if (!(await renew(entry).catch(() => true))) setAside(entry, error.message);
        await later(wait);
        continue;
      }
      trouble(error);
      tell();
      await later(wait);
      wait = Math.min(5000, wait * 2);
    }
  }
  sending = false;
  tell();
}

// A lease that ran out while the answer waited may have been given anew, with another ticket; whether it was.
async function renew({ name, ...entry }) {
  const { questions } = await call("/api/next", { count: AHEAD }, entry.person || me);
  const question = questions.find((q) => q.question === entry.question);
  if (!question || question.ticket === entry.ticket || !isThere(name)) return false;
  writeEntry(name, { ...entry, ticket: question.ticket });
  return true;
}

function isThere(name) { return held.has(name) || keep.get(name) !== null; }

function setAside({ name, ...entry }, why) {
  if (!isThere(name)) return; // another tab has sent it meanwhile
  if (entry.run === null) tried.add(name);
  else {
    writeEntry(name, { ...entry, refused: why });
    if (entry.run === run && entry.person === me) { answered.delete(entry.question); mine = Math.max(0, mine - 1); }
  }
  toast(why);
}

async function undo() {
  if (takeBack()) return;
  const waits = () => { gather(); return outbox.some((entry) => entry.person === me); };
  for (let i = 0; waits() && i < 60; i += 1) await later(100);
  if (waits()) return toast("Your answers are still on their way: undo in a moment.");
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
    toast(sentence(error));
  }
}

// What is said

function tell() {
  const planned = state.planned || 0, done = (state.answered || 0) + (state.skipped || 0);
  const share = planned ? Math.min(1, done / planned) : 0;
  $("bar").firstElementChild.style.width = `${100 * share}%`;
  $("bar").setAttribute("aria-valuenow", Math.round(100 * share));
  $("counts").textContent = state.planned === undefined ? "" : `${done} of ${planned} answered · ${state.open || 0} open · ${mine} by you just now`;
  const recent = times.filter((time) => Date.now() - time < 120_000);
  const minutes = recent.length > 1 ? (Date.now() - recent[0]) / 60_000 : 0;
  $("rate").textContent = minutes > 0.05 ? `${Math.round((recent.length - 1) / minutes)} a minute` : "";
  const waiting = outbox.length, elsewhere = kept.others.length + kept.refused.length + kept.broken.length;
  $("saved").className = waiting ? "waiting" : "";
  $("saved").textContent = waiting ? `${waiting} kept here until the server has ${waiting > 1 ? "them" : "it"}` : !mine ? "" : elsewhere ? "✓ saved, for this run" : "✓ all saved";
  const done_all = planned && done >= planned;
  $("nothing-title").textContent = done_all && !waiting ? "All answered. Thank you!" : "No question is open";
  $("nothing-text").textContent = done_all ? "" : "The program asks again when it has learned a little more. Leave this page open.";
  notices();
}

function plural(count, one, many) { return `${count} ${count === 1 ? one : many}`; }

// Sentences that stay as long as they are true; what nobody can send can be taken out of the browser.
let told = "";
function notices() {
  const lines = [];
  if (problem) lines.push([problem]);
  for (const why of undrawn) lines.push([`${why[0].toUpperCase()}${why.slice(1)}`]);
  if (kept.homeless.length) lines.push([`This browser has no room to write ${plural(kept.homeless.length, "answer", "answers")} down: leave this page open until the server has ${kept.homeless.length === 1 ? "it" : "them"}.`]);
  if (!run && kept.others.length) lines.push([`${plural(kept.others.length, "answer waits", "answers wait")} in this browser until the server has said which run this is.`]);
  else for (const [name, entries] of group(kept.others, (entry) => entry.called)) {
    lines.push([`${plural(entries.length, "answer waits", "answers wait")} in this browser for ${name}, until its page is opened here again.`, entries]);
  }
  for (const [why, entries] of group(kept.refused, (entry) => entry.refused)) {
    lines.push([`The server did not take ${plural(entries.length, "answer", "answers")}, kept in this browser: ${why}`, entries]);
  }
  if (kept.broken.length) lines.push([`${plural(kept.broken.length, "answer", "answers")} kept in this browser cannot be read, and ${kept.broken.length === 1 ? "is" : "are"} left as ${kept.broken.length === 1 ? "it is" : "they are"}.`, kept.broken]);
  const now = JSON.stringify(lines.map(([text, entries]) => [text, (entries || []).map((entry) => entry.name)]));
  if (now === told) return;
  told = now;
  $("notices").replaceChildren(...lines.map(([text, entries]) => {
    const line = document.createElement("p");
    line.textContent = text;
    if (entries) line.append(" ", button("Download", () => download(entries)), " ", button("Throw away", () => throwAway(entries)));
    return line;
  }));
}

function group(entries, by) {
  const groups = new Map();
  for (const entry of entries) groups.set(by(entry), [...(groups.get(by(entry)) || []), entry]);
  return groups;
}

function button(text, act) {
  const made = document.createElement("button");
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

function download(entries) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(entries, null, 1)], { type: "application/json" }));
  link.download = "prefrl-answers.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function throwAway(entries) {
  if (!confirm(`Throw ${plural(entries.length, "answer", "answers")} away? Nobody will have ${entries.length === 1 ? "it" : "them"}.`)) return;
  entries.forEach((entry) => dropEntry(entry.name));
  gather();
  tell();
}

function sentence(error) {
  if (!(error instanceof Refused)) return "The server does not answer.";
  return `${error.message[0].toUpperCase()}${error.message.slice(1)}`;
}

let problem = "", toasting = 0;
function trouble(error) {
  problem = error && sentence(error);
  if (error.status === 401) door(error); // the token
}
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
function much(on) { $("much").setAttribute("aria-pressed", on); }
function say(word) { answer(word === "equal" && isSet(shown) ? allEqual(shown) : word); }
// What a key says of a set: a number places a clip, what a pair has left and right for says nothing.
function pressedOfSet(key) {
  if (/^[1-9]$/.test(key)) { place(key - 1); return true; }
  if (key === "Enter") { done(); return true; }
  if (key === "=") { relink(Math.min(shown.order.length, shown.clips.length - 1) - 1); return true; }
  return ["left", "right"].includes(KEYS[key]);
}
function slower() {
  speed = (speed + 1) % SPEEDS.length;
  $("slower").setAttribute("aria-pressed", speed > 0);
  $("slower").querySelector("b").textContent = speed ? `Slower ×${SPEEDS[speed]}` : "Slower";
  replay();
}
const DOES = { z: undo, Backspace: undo, s: slower, r: replay, m: () => $("much").click() };
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.altKey || event.metaKey || $("hello").open || $("answer").hidden) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey && key !== "z") return;
  if (isSet(shown) && pressedOfSet(key)) return event.preventDefault();
  const word = (tall.matches && !isSet(shown) && TALL[key]) || KEYS[key];
  if (!word && !DOES[key]) return;
  event.preventDefault();
  if (word) say(word); else DOES[key]();
});
document.querySelectorAll("[data-answer]").forEach((button) => button.addEventListener("click", () => { button.blur(); say(button.dataset.answer); }));
for (const [id, act] of [["undo", undo], ["slower", slower], ["again", replay], ["done", done], ["much", () => much($("much").getAttribute("aria-pressed") !== "true")]]) $(id).addEventListener("click", () => { $(id).blur(); act(); });

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
    const how = await call("/api/run"), who = how.blind ? null : await call("/api/people");
    const { curves } = how;
    const chartOf = (title, ...names) => (names[0] in curves ? [chart(title, curves.step, names.map((name) => curves[name]), how.steps)] : []);
    $("charts").replaceChildren(
      ...chartOf("Reward that is learned from the answers, a step", "learned_return"),
      ...chartOf("True return of an episode, where the task has one; nobody trains on it", "true_return"),
      ...chartOf("Questions asked, and answered (dashed)", "labels_asked", "labels_answered"),
      ...chartOf("Share of held-out answers that the learned reward predicts", "held_out_accuracy"),
    );
    const numbers = [["Planned", how.planned], ["Asked so far", how.asked], ["Answered", how.answered], ["Could not tell", how.skipped], ["Open", how.open], ["Taken back", how.withdrawn], ["Training", how.finished ? "finished" : curves.step.length ? `${Math.round(100 * curves.step.at(-1) / how.steps)} %` : "begins"]];
    $("numbers").replaceChildren(...numbers.flatMap(([name, value]) => ["dt", "dd"].map((tag, i) => {
      const element = document.createElement(tag);
      element.textContent = i ? value : name;
      return element;
    })));
    document.querySelectorAll(".of-others").forEach((card) => { card.hidden = !who; });
    $("blind").hidden = !!who;
    $("blind-text").textContent = who ? "" : sentence(new Refused(403, how.blind));
    if (who) tables(who);
    await film(how.policy);
  } catch (error) {
    toast(sentence(error));
  }
}

function tables(who) {
  const seconds = (x) => (x === null ? "" : x.toFixed(1));
  const words = ["left", "right", "equal", "cannot tell", ...(who.people.some((p) => p.choice) ? ["choice"] : [])];
    table("people", 1, ["name", "answers", ...words, "seconds each"],
      who.people.map((p) => [p.name, p.answers, ...words.map((word) => p[word] || 0), seconds(p.seconds)]));
    $("kappa").replaceChildren(...who.kappa.map((k) => {
      const item = document.createElement("li");
      item.textContent = `${k.one} and ${k.other} agree with kappa ${k.kappa === null ? "undefined" : k.kappa.toFixed(2)} over ${k.questions} questions`;
      return item;
    }));
    table("newest", 3, ["when", "who", "said", "seconds", "policy's step"], who.newest.map((a) => [new Date(a.at).toLocaleTimeString(), a.name, `${{ left: "← ", right: "→ ", equal: "= ", "cannot tell": "? " }[a.answer] || ""}${a.answer}`, a.seconds, a.step]));
}

async function film(version) {
  if (!version) $("no-policy").hidden = false;
  if (!version || version === seen) return;
  $("no-policy").hidden = true;
  const video = $("policy").querySelector("video");
  if (!video.src) $("policy").classList.add("loading");
  seen = version;
  const reply = await fetch("/policy.mp4", token ? { headers: { authorization: `Bearer ${token}` } } : {});
  $("policy").classList.remove("loading");
  if (!reply.ok) { // 404: this policy cannot be filmed, so the next one is asked for
    if (reply.status !== 404) seen = null;
    const said = (await reply.json().catch(() => ({}))).error || "";
    $("no-policy").textContent = said && sentence(new Refused(reply.status, said));
    $("no-policy").hidden = !said;
    return;
  }
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
  adopt();
  gather();
  tell();
  const name = lastName();
  for (let wait = 500; name && !named && !$("hello").open; wait = Math.min(5000, 2 * wait)) {
    try {
      await hello(name);
    } catch (error) {
      if (error instanceof Refused && error.status < 500 && error.status !== 429) door(error);
      else { trouble(error); show(); await later(wait); }
    }
  }
  if (!named) return $("hello").open || door(null);
  send();
  await fill();
  show();
})();
setInterval(() => { if (named && !queue.length) fill(); send(); }, 1500);
setInterval(() => { if (named) fill(); }, BEAT);
