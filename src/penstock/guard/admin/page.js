// The guard's page: asks for the status every two seconds and shows it. Text from elsewhere is only ever set as text.
"use strict";

const EVERY = 2000, PATIENCE = 5000, REMEMBERED = 150;
const byId = (id) => document.getElementById(id);
const past = []; // [requests a second, refusals a second]
let last = null, answered = 0, timer = 0, turn = 0, failed = "";

const whole = new Intl.NumberFormat("en");
const count = (n) => n < 1e6 ? whole.format(n) : `${(n / (n < 1e9 ? 1e6 : 1e9)).toFixed(n % 1e9 < 1e8 ? 2 : 1)} ${n < 1e9 ? "M" : "G"}`;
const rate = (n) => n >= 10 || n === 0 ? count(Math.round(n)) : n.toFixed(1);
const share = (part, all) => {
  if (!all || !part) return "0 %";
  const percent = 100 * part / all;
  return `${percent >= 10 ? percent.toFixed(0) : percent >= 0.1 ? percent.toFixed(1) : "under 0.1"} %`;
};
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
const words = (name) => String(name).replaceAll("_", " ");
const titled = (name) => name.charAt(0).toUpperCase() + name.slice(1).toLowerCase();

function time(seconds) {
  if (seconds === null || seconds === undefined) return "for ever";
  const s = Math.max(0, Math.ceil(seconds));
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => s >= size);
  if (first < 0) return "0 s";
  const [size, unit] = units[first], next = units[first + 1];
  const rest = next ? Math.floor(s % size / next[0]) : 0;
  return `${Math.floor(s / size)} ${unit}${rest ? ` ${rest} ${next[1]}` : ""}`;
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

// Brings a table in line with `items`, keeping the rows that stay, so that no focus is lost. Keys must differ.
function rows(body, items, key, build, fill) {
  const old = new Map([...body.children].map((row) => [row.dataset.key, row]));
  items.forEach((item, place) => {
    const name = String(key(item, place));
    let row = old.get(name);
    if (row) old.delete(name);
    else {
      row = build(item);
      row.dataset.key = name;
    }
    fill(row, item);
    if (body.children[place] !== row) body.insertBefore(row, body.children[place] || null);
  });
  old.forEach((row) => row.remove());
}

function barRows(body, entries, hot) {
  const most = Math.max(1, ...entries.map(([, n]) => n));
  const all = entries.reduce((sum, [, n]) => sum + n, 0);
  rows(body, entries, ([name]) => name, ([name]) => {
    const row = make("tr"), bar = make("td", "bar"), head = make("th", "", words(name));
    head.scope = "row";
    bar.append(make("div"));
    row.append(head, bar, make("td"));
    return row;
  }, (row, [name, n]) => {
    const bar = row.children[1].firstChild;
    row.classList.toggle("hot", hot(name));
    bar.style.width = `${100 * n / most}%`;
    bar.classList.toggle("none", n === 0);
    set(row.children[2], `${count(n)}`);
    row.children[2].title = share(n, all);
  });
}

function traffic(statistics) {
  const now = performance.now(), total = statistics.total_requests || 0, refused = statistics.blocked_requests || 0;
  set(byId("n-total"), count(total));
  set(byId("n-refused"), count(refused));
  set(byId("n-share"), refused ? `, ${share(refused, total)}` : "");
  if (last && total >= last.total) {
    const seconds = (now - last.now) / 1000;
    const pair = [(total - last.total) / seconds, Math.max(0, refused - last.refused) / seconds];
    past.push(pair);
    if (past.length > REMEMBERED) past.shift();
    set(byId("n-rate"), rate(pair[0]));
    set(byId("n-refusal-rate"), rate(pair[1]));
    graph();
  }
  last = { now, total, refused };
}

function graph() {
  const most = Math.max(1, ...past.map(([all]) => all)), step = 600 / REMEMBERED;
  const start = 600 - past.length * step;
  const path = (which) => {
    const tops = past.map((pair, i) => `V${(90 - 86 * pair[which] / most).toFixed(1)}H${(start + (i + 1) * step).toFixed(1)}`);
    return `M${start.toFixed(1)},90${tops.join("")}V90Z`;
  };
  byId("graph").querySelector(".all").setAttribute("d", path(0));
  byId("graph").querySelector(".refused").setAttribute("d", path(1));
  set(byId("graph-most"), `peak ${rate(most)}`);
}

const whom = (ban) => ban.value ?? `known by a hash alone, ${ban.id}`;

function bans(list) {
  set(byId("n-bans"), list.length ? count(list.length) : "");
  byId("no-bans").hidden = list.length > 0;
  byId("h-bans").parentElement.querySelector(".scroll").hidden = list.length === 0;
  rows(byId("bans"), list, (ban) => ban.id, (ban) => {
    const row = make("tr"), button = make("button", "", "Unban"), act = make("td", "act");
    button.type = "button";
    button.setAttribute("aria-label", `Unban ${words(ban.kind)} ${whom(ban)}`);
    button.addEventListener("click", () => unban(button, ban));
    act.append(button);
    row.append(make("td", "who"), make("td", "text"), make("td", "left"), make("td", "offences"), act);
    return row;
  }, (row, ban) => {
    const [who, why, left, offences] = row.children;
    set(who, ban.kind === "address" ? whom(ban) : `${words(ban.kind)} ${whom(ban)}`);
    set(why, words(ban.reason || "–"));
    set(left, time(ban.seconds_left));
    set(offences, count(ban.offences));
    offences.classList.toggle("one", ban.offences === 1);
  });
}

function emergency(state) {
  const now = byId("emergency-now");
  const manual = state.manual === null || state.manual === undefined ? "" : ", by hand";
  set(now, state.on ? `On for ${time(state.seconds)}${manual}` : `Off${manual}`);
  now.classList.toggle("on", Boolean(state.on));
  const chosen = String(state.manual ?? null);
  if (!byId("emergency").disabled) {
    document.getElementsByName("emergency").forEach((input) => { input.checked = input.value === chosen; });
  }
}

function health(state) {
  const entries = [];
  const say = (name, value, bad = false) => entries.push([name, value, bad]);
  say("middleware", state.in_path ? "in the path of requests" : "no request has passed it", !state.in_path);
  say("dry run", state.dry_run ? "yes: nothing is refused" : "no", Boolean(state.dry_run));
  say("shared memory", state.shared || "none; counts are of this process");
  say("Redis", state.redis || "not used");
  say("GeoIP", state.geoip || "not used");
  Object.entries(state.feeds || {}).forEach(([name, feed]) =>
    say(`feed ${name}`, `${plural(feed.entries, "entry").replace("entrys", "entries")}, ${time(feed.age)} old`));
  if (state.events) {
    const dropped = state.events.dropped || 0;
    say("events", `${count(state.events.queued || 0)} waiting${dropped ? `, ${count(dropped)} dropped` : ""}`, dropped > 0);
  }
  Object.entries(state.detector_errors || {}).forEach(([name, n]) => say(`${words(name)} failed`, plural(n, "time"), true));
  const list = byId("health");
  const old = new Map([...list.querySelectorAll("dt")].map((term) => [term.textContent, term]));
  entries.forEach(([name, value, bad]) => {
    let term = old.get(name);
    if (term) old.delete(name);
    else {
      term = make("dt", "", name);
      list.append(term, make("dd"));
    }
    set(term.nextSibling, String(value));
    term.nextSibling.classList.toggle("bad", bad);
  });
  old.forEach((term) => { term.nextSibling.remove(); term.remove(); });
  notices(state);
}

function notices(state) {
  const list = [];
  if (!state.in_path) list.push(["bad", "No request has passed the guard's middleware: nothing is protected yet."]);
  if (state.dry_run) list.push(["", "Dry run: what would be refused is counted and let through."]);
  rows(byId("notices"), list, ([, text]) => text, ([kind, text]) => make("p", `notice ${kind}`, text), () => {});
}

function show(status) {
  traffic(status.statistics || {});
  const tiers = Object.entries(status.tiers || {}).map(([name, n]) => [titled(name), n]);
  barRows(byId("tiers"), tiers, (name) => name === "Block" || name === "Banned");
  const refusals = Object.entries(status.refusals || {}).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]).slice(0, 12);
  barRows(byId("refusals"), refusals, () => true);
  byId("no-refusals").hidden = refusals.length > 0;
  const top = (status.top || []).slice(0, 10);
  byId("no-top").hidden = top.length > 0;
  byId("top").parentElement.hidden = top.length === 0;
  rows(byId("top"), top, (_, place) => place, () => { // masked addresses can be the same
    const row = make("tr");
    row.append(make("td"), make("td"), make("td"));
    return row;
  }, (row, one) => [one.address, count(one.requests), count(one.refused)].forEach((text, i) => set(row.children[i], String(text))));
  bans(status.bans || []);
  emergency(status.emergency || {});
  health(status.health || {});
}

function contact() {
  const element = byId("contact"), silent = answered ? (performance.now() - answered) / 1000 : 0;
  const lost = failed !== "";
  document.body.classList.toggle("stale", lost);
  element.className = lost ? "lost" : answered ? "live" : "";
  if (lost) set(element, answered ? `Lost contact ${time(silent)} ago (${failed})` : `No contact (${failed})`);
  else if (answered) set(element, "Live");
}

async function ask(path, options = {}) {
  const answer = await fetch(`../api/security/${path}`, {
    cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE), ...options,
  });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.detail || `status ${answer.status}`);
  return told;
}

async function poll() {
  clearTimeout(timer);
  const mine = ++turn; // a later poll makes this one's answer old
  let status = null, wrong = "";
  try {
    status = await ask("status");
  } catch (error) {
    wrong = error.name === "TimeoutError" ? "no answer in time" : error instanceof TypeError ? "no answer" : error.message;
  }
  if (mine !== turn) return;
  failed = wrong;
  if (status) {
    answered = performance.now();
    show(status);
  }
  contact();
  timer = setTimeout(poll, EVERY);
}

let saying = 0;
function say(text) {
  set(byId("said"), text);
  clearTimeout(saying);
  saying = setTimeout(() => set(byId("said"), ""), 6000);
}

async function change(path, body, done) {
  try {
    await ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
    say(done);
  } catch (error) {
    say(`That failed: ${error.message}`);
  }
  await poll();
}

async function unban(button, ban) {
  button.disabled = true;
  await change("unban", { id: ban.id }, `Unbanned ${whom(ban)}`);
  button.disabled = false;
}

byId("emergency").addEventListener("change", async (event) => {
  const field = byId("emergency"), chosen = JSON.parse(event.target.value);
  field.disabled = true;
  await change("emergency", { on: chosen }, `Emergency mode: ${chosen === null ? "automatic" : chosen ? "on" : "off"}`);
  field.disabled = false;
  event.target.focus();
});

document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
poll();
