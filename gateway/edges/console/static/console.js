// The console's only script: it enters by the one-time link, watches for news, and sends what a person decides.
"use strict";

const KEY = "pratique-key"; // in this origin's own storage: a cookie alone, which other ports of the host get too, can only look
const SETTLE_MS = 700; // buttons wake up late, so that a click meant for what was here before does nothing
const FOLLOW_MS = 1000;
const WORDS_MS = 3000;
const WORDS_TRIES = 40; // two minutes

async function enter(said) {
  const link = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  const answer = await post("/console/enter", { link });
  if (!answer.ok) {
    said.textContent = await sentence(answer);
    return;
  }
  localStorage.setItem(KEY, (await answer.json()).key);
  location.replace("/console");
}

function post(path, body, fields = {}) {
  const headers = { "content-type": "application/json", "x-pratique-key": localStorage.getItem(KEY) ?? "", ...fields };
  return fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
}

async function sentence(answer) {
  try {
    return (await answer.json()).detail;
  } catch {
    return `The gateway answered ${answer.status}.`;
  }
}

async function send(buttons, request) {
  const said = document.getElementById("said");
  buttons.forEach((button) => { button.disabled = true; });
  said.textContent = "";
  try {
    const answer = await request();
    if (answer.ok) return location.reload();
    said.textContent = await sentence(answer);
  } catch {
    said.textContent = "The gateway cannot be reached; nothing was decided here.";
  }
  buttons.forEach((button) => { button.disabled = false; });
}

function decide(form, buttons, decision) {
  const { ticket, digest, version } = form.dataset;
  const scope = form.elements.scope?.checked ? "task" : "once";
  const body = { decision, call_digest: digest, scope, comment: form.elements.comment.value };
  return send(buttons, () => post(`/api/v1/approvals/${ticket}/decisions`, body, { "if-match": `"${version}"` }));
}

function accept(button) {
  const { accept: server, tool, seen } = button.dataset;
  return send([button], () => post(`/api/v1/servers/${server}/accept`, { tool, seen }));
}

function settle(form, buttons, decision) {
  const { task, digest } = form.dataset;
  const boxes = [...document.querySelectorAll("input[name=path]")];
  const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
  if (decision === "drop") return send(buttons, () => post(`/api/v1/workspaces/${task}/drop`, { digest }));
  if (chosen.length === 0) {
    document.getElementById("said").textContent = "Nothing is chosen.";
    return undefined;
  }
  const paths = chosen.length === boxes.length ? [] : chosen;
  return send(buttons, () => post(`/api/v1/workspaces/${task}/apply`, { digest, paths }));
}

function wake(buttons, act) {
  for (const button of buttons) {
    button.addEventListener("click", () => act(button));
    button.addEventListener("keydown", (event) => { if (event.key === "Enter") event.preventDefault(); }); // the space bar presses it
  }
  setTimeout(() => buttons.forEach((button) => { button.disabled = false; }), SETTLE_MS);
}

async function rendered(path) { // a page as it is now; null where it cannot be had any more
  const answer = await fetch(path);
  return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
}

async function refresh() {
  const page = await rendered("/console");
  if (!page) return location.reload();
  document.body.dataset.waiting = page.body.dataset.waiting;
  return document.querySelector("main").replaceWith(page.querySelector("main"));
}

async function follow(news) { // the model's page, once a second, unless somebody points at, selects or has focused something
  const main = document.querySelector("main");
  const isRead = main.querySelector("svg.kv:hover") || main.contains(document.activeElement) || !getSelection().isCollapsed;
  if (!document.hidden && !isRead) {
    try {
      const page = await rendered(location.pathname);
      if (!page) return location.reload();
      main.replaceWith(page.querySelector("main"));
      news.textContent = "";
    } catch {
      news.textContent = "the gateway cannot be reached";
    }
  }
  return setTimeout(() => follow(news), FOLLOW_MS);
}

async function awaitWords(tries) { // the model may still be writing; what it says is put below everything
  if (!document.hidden) {
    const words = (await rendered(location.pathname).catch(() => null))?.getElementById("model-words");
    if (words) return document.querySelector("main").append(words);
  }
  return tries > 1 ? setTimeout(() => awaitWords(tries - 1), WORDS_MS) : undefined;
}

function watch(news, about) {
  let feed = null;
  const open = () => {
    feed = new EventSource("/api/v1/approvals/events");
    feed.addEventListener("waiting", (event) => { // the first word of every connection: what waits now
      const { waiting } = JSON.parse(event.data);
      if (about.page === "home" && waiting.join(" ") !== about.waiting) refresh();
      if (about.state === "pending" && !waiting.includes(about.ticket)) location.reload();
    });
    feed.addEventListener("approval", (event) => {
      const moved = JSON.parse(event.data);
      if (about.page === "home") refresh();
      else if (moved.id === about.ticket && String(moved.version) !== about.version) location.reload();
      else if (moved.id !== about.ticket && moved.state === "pending") news.textContent = "another call waits";
    });
  };
  document.addEventListener("visibilitychange", () => { // a browser has six connections for a host: hidden pages keep none
    feed?.close();
    feed = null;
    if (!document.hidden) open();
  });
  if (!document.hidden) open();
}

function count(shown, until) {
  const left = Math.max(0, Math.round((until - performance.now()) / 1000));
  shown.textContent = `${Math.floor(left / 60)} min ${left % 60} s`;
  if (left > 0) setTimeout(() => count(shown, until), 1000);
}

document.addEventListener("DOMContentLoaded", () => {
  const entering = document.getElementById("entering");
  if (entering) enter(entering);
  const about = document.body.dataset;
  if (about.page === "home" || about.page === "approval") watch(document.getElementById("news"), about);
  if (about.page === "llm") setTimeout(() => follow(document.getElementById("news")), FOLLOW_MS);
  if (about.words === "awaited") setTimeout(() => awaitWords(WORDS_TRIES), WORDS_MS);
  const clock = document.getElementById("countdown");
  if (clock) count(clock, performance.now() + Number(about.left) * 1000);
  const form = document.getElementById("decision");
  if (form) {
    form.addEventListener("submit", (event) => event.preventDefault());
    const buttons = form.querySelectorAll("button");
    wake(buttons, (button) => decide(form, buttons, button.value));
  }
  const changes = document.getElementById("workspace");
  if (changes) {
    changes.addEventListener("submit", (event) => event.preventDefault());
    const buttons = changes.querySelectorAll("button");
    wake(buttons, (button) => settle(changes, buttons, button.value));
  }
  wake(document.querySelectorAll("button[data-accept]"), accept);
});
