"use strict";
// Questions about K clips: all of them put in order, or the best chosen. An order lives in its question until it is sent,
// best first, with what stands between neighbours: ">" or "=". Clips are placed by number, by a press, or by dragging.

let dragging = null;      // {place, x, y, moved}: a clip or its number, from where it was taken

const isSet = (question) => !!question && question.kind !== "pair";
const choiceOf = (question) => question.order.map((place, i) => (i ? question.links[i - 1] : "") + place).join("");
const allEqual = (question) => question.clips.map((_, place) => place).join("=");
const isWhole = (question) => question.order.length === question.clips.length;

function clipOf(place) {
  const clip = document.createElement("button");
  clip.className = "clip";
  clip.dataset.place = place;
  clip.setAttribute("aria-keyshortcuts", `${place + 1}`);
  const film = document.querySelector("#left .film").cloneNode(true);
  film.querySelector("video").removeAttribute("src");
  const name = document.createElement("span"), key = document.createElement("kbd"), rank = document.createElement("b");
  name.className = "name";
  key.textContent = place + 1;
  key.className = "number";
  rank.className = "rank";
  name.append(key, rank);
  clip.append(film, name);
  return clip;
}

function layOut(question) { // the clips of a set, and the place of its order; the films come later
  $("set").replaceChildren(...question.clips.map((_, place) => clipOf(place)));
  $("set").style.setProperty("--columns", Math.min(question.clips.length, question.clips.length === 4 ? 4 : 3));
  question.order = question.order || [];
  question.links = question.links || Array(question.clips.length - 1).fill(">");
  $("how").textContent = question.kind === "best" ? "Which one is the best?" : "Put them in order: the best first, then the next.";
  tellOrder(question);
}

const ORDINALS = ["best", "2nd", "3rd"];
function tellOrder(question) {
  const ranking = question.kind === "ranking";
  $("order").hidden = $("done").hidden = !ranking;
  let rank = 0;
  const ranks = new Map(question.order.map((place, i) => {
    if (i && question.links[i - 1] === ">") rank = i;
    return [place, rank];
  }));
  for (const clip of $("set").children) {
    const of = ranks.get(+clip.dataset.place);
    clip.classList.toggle("placed", of !== undefined);
    clip.querySelector(".rank").textContent = of !== undefined ? ORDINALS[of] || `${of + 1}th` : ranking ? "" : "is the best";
  }
  if (!ranking) return;
  $("done").disabled = !isWhole(question);
  $("order").replaceChildren(...question.clips.flatMap((_, i) => {
    const slot = document.createElement("span"), place = question.order[i];
    slot.className = place === undefined ? "slot" : "slot chip";
    slot.dataset.slot = i;
    slot.textContent = place === undefined ? "" : place + 1;
    if (place !== undefined) slot.dataset.place = place;
    if (!i) return [slot];
    const link = button(question.links[i - 1], () => relink(i - 1));
    link.className = "link";
    link.title = "better, or equally good";
    return [link, slot];
  }));
}

function relink(i) {
  const question = shown;
  if (!isSet(question) || question.said || i < 0) return;
  question.links[i] = question.links[i] === ">" ? "=" : ">";
  tellOrder(question);
}

// Put a clip into the order, at the end unless told where; the last one that is left finds its place by itself.
function place(number, at) {
  const question = shown;
  if (!isSet(question) || question.said || number >= question.clips.length) return;
  if (question.kind === "best") return answer(`${number}`);
  const rest = question.order.filter((other) => other !== number);
  if (at === undefined && rest.length < question.order.length) return; // it has its place
  rest.splice(at ?? rest.length, 0, number);
  question.order = rest;
  if (rest.length === question.clips.length - 1) question.order.push(question.clips.findIndex((_, i) => !rest.includes(i)));
  tellOrder(question);
}

function takeBack() { // the clip that was placed last, with the one that placed itself; whether there was any
  const question = shown;
  if (!isSet(question) || question.said || !question.order.length) return false;
  question.order.splice(isWhole(question) ? question.order.length - 2 : question.order.length - 1);
  tellOrder(question);
  return true;
}

function done() {
  if (isSet(shown) && shown.kind === "ranking" && isWhole(shown)) answer(choiceOf(shown));
}

// Dragging: onto a slot of the order, or onto another clip, whose place it takes.

function where(event) {
  const under = document.elementsFromPoint(event.clientX, event.clientY).find((element) => element.closest("[data-slot], #set .clip"));
  return under ? under.closest("[data-slot], #set .clip") : null;
}
addEventListener("pointerdown", (event) => {
  const taken = event.target.closest && event.target.closest("#set .clip, .chip");
  if (taken && isSet(shown) && !event.button) dragging = { place: +taken.dataset.place, x: event.clientX, y: event.clientY, moved: false, taken };
});
addEventListener("pointermove", (event) => {
  if (!dragging || !isSet(shown) || shown.kind !== "ranking") return;
  dragging.moved = dragging.moved || Math.hypot(event.clientX - dragging.x, event.clientY - dragging.y) > 8;
  if (!dragging.moved) return;
  dragging.taken.classList.add("dragged");
  dragging.taken.style.translate = `${event.clientX - dragging.x}px ${event.clientY - dragging.y}px`;
  const over = where(event);
  document.querySelectorAll(".over").forEach((element) => element.classList.remove("over"));
  if (over && over !== dragging.taken) over.classList.add("over");
});
addEventListener("pointercancel", letGo);
addEventListener("pointerup", (event) => {
  if (!dragging) return;
  const { place: number, moved, taken } = dragging;
  taken.style.pointerEvents = "none"; // what lies under it is what counts
  const over = moved && where(event);
  letGo();
  if (!moved) return place(number);
  if (!over) return;
  const onto = over.dataset.slot !== undefined ? +over.dataset.slot : shown.order.indexOf(+over.dataset.place);
  place(number, onto < 0 ? undefined : Math.min(onto, shown.order.filter((other) => other !== number).length));
});
function letGo() {
  if (dragging) Object.assign(dragging.taken.style, { translate: "", pointerEvents: "" });
  document.querySelectorAll(".over, .dragged").forEach((element) => element.classList.remove("over", "dragged"));
  dragging = null;
}
document.addEventListener("click", (event) => { // by keyboard or by a screen reader: no pointer was down
  const clip = event.target.closest && event.target.closest("#set .clip");
  if (clip) clip.blur();
  if (clip && event.detail === 0) place(+clip.dataset.place);
});
