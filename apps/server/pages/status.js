// The status page's live part: figures, charts of two minutes and one row per shard, from totals that the server counts.

import { bytes, count, duration, share, watchShards } from "./figure.js";

const SVG = "http://www.w3.org/2000/svg";
/** Seconds that a chart shows. */
const WINDOW = 120;
/** So many letters in a mailbox at the moment of asking are worth a second look. */
const MAILBOX_DEEP = 1_000;
/** A shard this busy has little room left, and then none. */
const BUSY_HIGH = 0.7;
const BUSY_FULL = 0.9;
/** Names of what the browser calls the next hop's protocol. */
const PROTOCOLS = { h3: "HTTP/3", h2: "HTTP/2", "http/1.1": "HTTP/1.1" };
/** Label and text of every column after the shard's name; `wide` ones take a line of their own on a phone. */
const COLUMNS = [
  { label: "Busy", cell: busyCell, isWide: true },
  { label: "Connections", text: ({ shard }) => count(shard.connections) },
  { label: "Quantum", text: ({ shard }) => count(shard.quantum) },
  { label: "QUIC", text: ({ shard }) => count(shard.quic) },
  { label: "Sessions", text: ({ shard }) => count(shard.sessions) },
  { label: "In /s", text: ({ rate }) => count(rate?.messagesIn) },
  { label: "Out /s", text: ({ rate }) => count(rate?.messagesOut) },
  { label: "Bytes in /s", text: ({ rate }) => bytes(rate?.bytesIn) },
  { label: "Bytes out /s", text: ({ rate }) => bytes(rate?.bytesOut) },
  { label: "Turns /s", text: ({ rate }) => count(rate?.turns) },
  { label: "Enters /s", text: ({ rate }) => count(rate?.enters) },
  { label: "Mailbox", text: ({ shard }) => count(shard.mailbox_depth), isMarked: ({ shard }) => shard.mailbox_depth >= MAILBOX_DEEP },
  { label: "2 min", cell: sparkCell },
];

const $ = (id) => document.getElementById(id);
const courses = new Map(); // name -> the last WINDOW values

watchShards(show, fail);

function show(report, rateOf) {
  const { shards, totals, uptime, version, protocol } = report;
  const rate = rateOf();
  $("page").classList.remove("is-stale");
  setBadge("online", "Online", `${shards.length} ${shards.length === 1 ? "shard" : "shards"}, live`);
  showTransport(protocol);
  $("connections").textContent = count(totals.connections);
  $("sessions").textContent = count(totals.sessions);
  $("uptime").textContent = duration(uptime);
  $("version").textContent = version;

  chart("messages", rate?.messagesOut, count(rate?.messagesOut), "/s");
  chart("bytes", rate?.bytesOut, bytes(rate?.bytesOut), "/s");
  chart("busy", totals.busy, share(totals.busy), "", 1);

  const rows = $("rows");
  if (rows.childElementCount !== shards.length) rows.replaceChildren(...shards.map(newRow));
  shards.forEach((shard, index) => fill(rows.children[index], { shard, rate: rateOf(index), name: `shard ${shard.shard}` }));
  if (!$("total").firstElementChild) $("total").append(newRow());
  fill($("total").firstElementChild, { shard: totals, rate, name: "total" });
}

function fail() {
  showTransport(null);
  $("page").classList.add("is-stale");
  setBadge("offline", "No answer", "trying every second");
}

/** What brought the figures here; browsers hide it in some private windows. */
function showTransport(protocol) {
  const name = PROTOCOLS[protocol];
  $("transport").hidden = !name;
  if (!name || $("transport").textContent === name) return;
  $("transport").textContent = name;
  $("transport").title = `These figures come over ${name}${protocol === "h3" ? " (QUIC, UDP)" : " (TCP)"}`;
}

function setBadge(state, text, detail) {
  if ($("badge").dataset.state !== state) $("badge-state").textContent = text;
  $("badge").dataset.state = state;
  if ($("badge-detail").textContent !== detail) $("badge-detail").textContent = detail;
}

function newRow(shard) {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  if (shard) head.append(`Shard ${shard.shard}`, Object.assign(document.createElement("small"), { textContent: shard.cpu === undefined ? "" : `CPU ${shard.cpu}` }));
  else head.append("All shards");
  row.append(head, ...COLUMNS.map(newCell));
  return row;
}

function newCell({ label, isWide }) {
  const cell = document.createElement("td");
  cell.dataset.label = label;
  cell.classList.toggle("wide", Boolean(isWide));
  return cell;
}

function fill(row, figures) {
  COLUMNS.forEach(({ text, cell, isMarked }, index) => {
    const place = row.children[index + 1];
    if (cell) return cell(place, figures);
    place.textContent = text(figures);
    place.classList.toggle("is-deep", Boolean(isMarked?.(figures)));
  });
}

function busyCell(place, { shard: { busy } }) {
  if (!place.firstElementChild) {
    const [box, bar] = [newSpan("busy-cell"), newSpan("bar")];
    bar.append(newSpan());
    box.append(bar, newSpan());
    place.append(box);
  }
  const [bar, text] = place.firstElementChild.children;
  bar.firstElementChild.style.width = `${Math.min(100, busy * 100)}%`;
  bar.classList.toggle("is-high", busy >= BUSY_HIGH && busy < BUSY_FULL);
  bar.classList.toggle("is-full", busy >= BUSY_FULL);
  text.textContent = share(busy);
}

function newSpan(className = "") {
  return Object.assign(document.createElement("span"), { className });
}

function sparkCell(place, { rate, name }) {
  if (!place.firstElementChild) place.append(drawing(`Messages out per second of ${name}, two minutes`));
  draw(place.firstElementChild, course(name, rate?.messagesOut));
}

function chart(name, value, text, unit, top) {
  const card = $("charts").querySelector(`[data-chart="${name}"]`);
  card.querySelector("strong").replaceChildren(text, Object.assign(document.createElement("small"), { textContent: unit && ` ${unit}` }));
  draw(card.querySelector("svg"), course(name, value), top);
}

/** The values of the window, oldest first; a second without an answer is left out. */
function course(name, value) {
  const values = courses.get(name) ?? [];
  if (value !== undefined && value !== null) values.push(value);
  if (values.length > WINDOW) values.shift();
  courses.set(name, values);
  return values;
}

function drawing(label) {
  const svg = document.createElementNS(SVG, "svg");
  const attributes = { viewBox: `0 0 ${WINDOW - 1} 100`, preserveAspectRatio: "none", role: "img", "aria-label": label };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  return svg;
}

/** Draws `values`, the newest at the right edge, as high as `top` or the highest value. */
function draw(svg, values, top = Math.max(1, ...values)) {
  if (!svg.firstElementChild) svg.append(...["spark-base", "spark-area", "spark"].map(newPath));
  const [base, area, line] = svg.children;
  const start = WINDOW - values.length;
  const points = values.map((value, index) => `${start + index},${(98 - (Math.min(value, top) / top) * 94).toFixed(1)}`);
  base.setAttribute("d", `M0 99H${WINDOW - 1}`);
  area.setAttribute("d", points.length > 1 ? `M${start},99L${points.join("L")}V99Z` : "");
  line.setAttribute("d", points.length > 1 ? `M${points.join("L")}` : "");
}

function newPath(name) {
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("class", name);
  return path;
}
