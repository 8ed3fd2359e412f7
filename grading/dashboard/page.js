"use strict";

// The journal: what does not contain every word that is searched for is hidden. Without scripts all of it is shown.
function search() {
  const field = document.getElementById("search");
  if (!field) return;
  field.form.hidden = false;
  const words = field.value.toLowerCase().split(/\s+/);
  const entries = [...document.querySelectorAll("#journal .entry")];
  for (const entry of entries) {
    const text = entry.textContent.toLowerCase();
    entry.hidden = !words.every((word) => text.includes(word));
  }
  const found = entries.filter((entry) => !entry.hidden).length;
  document.getElementById("found").textContent = `${found} of ${entries.length} notes`;
}

// A page that is served changes with the record: each part of it that is new takes the place of the old one. What is
// unfolded, typed or focused stays.
const served = new Map();

async function live(address) {
  let version = document.documentElement.dataset.version;
  let connected = true;
  while (true) {
    await new Promise((done) => setTimeout(done, 1000));
    if (document.hidden) continue;
    try {
      const now = (await (await got(address)).json()).version;
      if (now !== version) update(await (await got(location.href)).text());
      version = now;
      if (!connected) say("");
      connected = true;
    } catch {
      if (connected) say("Not live any more: what serves this page has ended. Start it again, and reload.");
      connected = false;
    }
  }
}

async function got(address) {
  const answer = await fetch(address, { cache: "no-store" });
  if (!answer.ok) throw new Error(answer.statusText);
  return answer;
}

function update(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  const parts = [...fresh.querySelectorAll("main > *")];
  if (parts.map((part) => part.id).join() !== [...served.keys()].join()) return location.reload();
  const focused = document.activeElement?.id;
  const before = document.getElementById("rank").dataset.earned;
  for (const part of parts) {
    if (served.get(part.id) === part.outerHTML) continue;
    served.set(part.id, part.outerHTML);
    const old = document.getElementById(part.id);
    takeOver(old, part);
    old.replaceWith(part);
  }
  search(); // unfolds the field, which could not be focused before
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  const earned = document.getElementById("rank").dataset.earned;
  if (earned && earned !== before) celebrate(earned);
}

function takeOver(before, after) {
  for (const open of before.querySelectorAll("details[open]")) {
    const same = after.querySelector(`#${CSS.escape(open.id)}`);
    if (same) same.open = true;
  }
  const typed = before.querySelector("input")?.value;
  if (typed) after.querySelector("input").value = typed;
}

function say(words) {
  document.getElementById("connection").textContent = words;
}

function celebrate(words) {
  const party = document.getElementById("party");
  party.hidden = false;
  party.querySelector("span").textContent = words;
  party.querySelector("button").onclick = () => (party.hidden = true);
}

for (const part of document.querySelectorAll("main > *")) served.set(part.id, part.outerHTML);
document.addEventListener("input", search);
document.addEventListener("submit", (event) => event.preventDefault());
search();
const address = document.documentElement.dataset.live;
if (address) live(address);
