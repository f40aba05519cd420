// The start page's live part: the ring with one segment per shard, filled as far as the shard is busy, and four figures.

import { count, duration, watchShards } from "./figure.js";

const SVG = "http://www.w3.org/2000/svg";
const RADIUS = 86;
const AROUND = 2 * Math.PI * RADIUS;
/** Between two segments, in units of the drawing; thinner when there are many shards. */
const GAP = 9;

const $ = (id) => document.getElementById(id);

$("ws-address").textContent = `${location.origin.replace(/^http/, "ws")}/ws`;
watchShards(show, () => $("page").classList.add("is-stale"));

function show(report, rateOf) {
  const { shards, totals, uptime, version } = report;
  const { connections } = totals;
  $("page").classList.remove("is-stale");
  $("connections").textContent = count(connections);
  $("connections-unit").textContent = connections === 1 ? "connection" : "connections";
  $("shards").textContent = shards.length;
  $("uptime").textContent = duration(uptime);
  $("version").textContent = version;
  const rate = rateOf();
  $("rate").replaceChildren(count(rate?.messagesOut), " ", small("messages/s"));
  drawRing(shards);
}

function drawRing(shards) {
  const segments = $("segments");
  if (segments.childElementCount !== shards.length * 2) segments.replaceChildren(...shards.flatMap(() => [arc("shard"), arc("busy")]));
  const step = AROUND / shards.length;
  const gap = shards.length > 1 ? Math.min(GAP, step / 4) : 0;
  shards.forEach(({ busy }, index) => {
    const [whole, part] = [segments.children[index * 2], segments.children[index * 2 + 1]];
    const length = step - gap;
    place(whole, length, index * step + gap / 2);
    place(part, length * Math.min(1, Math.max(0.012, busy)), index * step + gap / 2);
  });
  $("ring").setAttribute("aria-label", shards.map(({ shard, busy }) => `shard ${shard}: ${Math.round(busy * 100)} % busy`).join(", "));
}

function arc(name) {
  const circle = document.createElementNS(SVG, "circle");
  for (const [key, value] of Object.entries({ class: name, cx: 100, cy: 100, r: RADIUS })) circle.setAttribute(key, value);
  return circle;
}

function place(circle, length, start) {
  circle.setAttribute("stroke-dasharray", `${length} ${AROUND - length}`);
  circle.setAttribute("stroke-dashoffset", -start);
}

function small(text) {
  return Object.assign(document.createElement("small"), { textContent: text });
}
