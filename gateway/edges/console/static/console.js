// The console's only script: it enters by the one-time link, watches for news, and sends a person's decision.
"use strict";

const KEY = "pratique-key"; // in this origin's own storage: a cookie alone, which other ports see, can only look

async function enter() {
  const link = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  const answer = await fetch("/console/enter", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ link }),
  });
  if (!answer.ok) {
    document.getElementById("entering").textContent = "This link was used or is too old: `pratique console` prints a fresh one.";
    return;
  }
  localStorage.setItem(KEY, (await answer.json()).key);
  location.replace("/console");
}

async function decide(form, decision) {
  const said = document.getElementById("said");
  const buttons = form.querySelectorAll("button");
  buttons.forEach((button) => { button.disabled = true; });
  said.textContent = "Sending your decision";
  const answer = await fetch(`/api/v1/approvals/${form.dataset.ticket}/decisions`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-pratique-key": localStorage.getItem(KEY) ?? "", "if-match": `"${form.dataset.version}"` },
    body: JSON.stringify({
      decision,
      call_digest: form.dataset.digest,
      scope: form.elements.scope.checked ? "task" : "once",
      comment: form.elements.comment.value,
    }),
  });
  if (answer.ok) {
    location.reload();
    return;
  }
  buttons.forEach((button) => { button.disabled = false; });
  said.textContent = (await answer.json()).detail;
}

function watch(live) {
  const news = document.getElementById("news");
  const events = new EventSource("/api/v1/approvals/events");
  events.addEventListener("approval", (event) => {
    if (live === "yes") location.reload();
    else if (event.lastEventId.startsWith(`${live}:`)) location.reload();
    else news.textContent = "another call waits";
  });
}

function count(expires) {
  const shown = document.getElementById("countdown");
  if (!shown) return;
  const left = Math.max(0, Math.round(expires - Date.now() / 1000));
  shown.textContent = `(in ${Math.floor(left / 60)} min ${left % 60} s)`;
  if (left > 0) setTimeout(() => count(expires), 1000);
}

document.addEventListener("DOMContentLoaded", () => {
  if (document.getElementById("entering")) enter();
  const { live, expires } = document.body.dataset;
  if (live) watch(live);
  if (expires) count(Number(expires));
  const form = document.getElementById("decision");
  if (form) {
    form.addEventListener("submit", (event) => event.preventDefault()); // Enter does not decide
    form.querySelectorAll("button").forEach((button) => button.addEventListener("click", () => decide(form, button.value)));
  }
});
