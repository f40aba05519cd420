// Figures of the shards: polling them, turning counters into rates, and writing them so that people can read them.

const EVERY_MS = 1_000;
/** A slower answer counts as none. */
const ANSWER_MS = 5_000;
const SUMMED = [
  "connections", "quantum", "quic", "sessions", "messages_in", "messages_out", "mailbox_depth", "turns", "enters", "bytes_in", "bytes_out",
];

let protocol; // of the last answer whose record there was

/** Calls `show(report, rates)` each second while the page is visible, and `fail()` when there is no answer. */
export async function watchShards(show, fail) {
  let last = null;
  for (;;) {
    await visible();
    const started = performance.now();
    try {
      const response = await fetch("/api/v1/shards", { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
      if (!response.ok) throw new Error(String(response.status));
      const sample = { at: performance.now(), report: parse(await response.json()) };
      sample.report.protocol = protocolOf(response.url);
      const isSame = last && sample.report.uptime >= last.report.uptime;
      show(sample.report, (index) => (isSame ? rates(last, sample, index) : null));
      last = sample;
    } catch (error) {
      if (error instanceof TypeError || error.name === "TimeoutError" || /^\d+$/.test(error.message)) fail();
      else console.error(error);
      last = null;
    }
    await new Promise((resolve) => setTimeout(resolve, Math.max(100, EVERY_MS - (performance.now() - started))));
  }
}

/** "h3", "h2" or "http/1.1" by the browser's newest record of `url`. Its list is bounded: the old ones make room. */
function protocolOf(url) {
  const record = performance.getEntriesByName(url).at(-1);
  if (record) protocol = record.nextHopProtocol;
  performance.clearResourceTimings();
  return protocol;
}

/** The document of `/api/v1/shards` as {uptime, version, shards, totals}; `totals` are sums, `busy` is their mean. */
function parse({ uptime_ms: ms, version, shards }) {
  for (const shard of shards) shard.busy = shard.busy_share;
  const totals = {};
  for (const key of SUMMED) totals[key] = shards.reduce((sum, shard) => sum + (shard[key] ?? 0), 0);
  totals.busy = shards.reduce((sum, { busy }) => sum + busy, 0) / Math.max(1, shards.length);
  return { uptime: ms / 1_000, version, shards, totals };
}

/** What was counted per second between two samples, of one shard or (without an index) of all. */
function rates(before, after, index) {
  const secs = (after.at - before.at) / 1_000;
  const [old, now] = [before, after].map(({ report }) => (index === undefined ? report.totals : report.shards[index]) ?? {});
  const per = (key) => Math.max(0, (now[key] ?? 0) - (old[key] ?? 0)) / secs;
  return {
    messagesIn: per("messages_in"), messagesOut: per("messages_out"), turns: per("turns"), enters: per("enters"),
    bytesIn: per("bytes_in"), bytesOut: per("bytes_out"),
  };
}

function visible() {
  if (!document.hidden) return null;
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

/** 12,345 · 123 k · 12.3 M */
export function count(value) {
  if (value === null || value === undefined) return "–";
  if (value < 100_000) return Math.round(value).toLocaleString("en");
  const unit = value < 999_500 ? ["k", 1e3] : value < 999_500_000 ? ["M", 1e6] : ["G", 1e9];
  return `${short(value / unit[1])} ${unit[0]}`;
}

/** 512 B · 1.2 MB */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (value >= 999.5 && power < units.length - 1) {
    value /= 1_000;
    power += 1;
  }
  return `${power ? short(value) : Math.round(value)} ${units[power]}`;
}

/** 12.3 % */
export function share(value) {
  return value === undefined ? "–" : `${(value * 100).toFixed(value < 0.0995 ? 1 : 0)} %`;
}

/** 45 s · 12 min 5 s · 3 h 20 min · 4 d 3 h */
export function duration(secs) {
  const s = Math.floor(secs);
  if (s < 60) return `${s} s`;
  if (s < 3_600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3_600)} h ${Math.floor((s % 3_600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3_600)} h`;
}

function short(value) {
  return value < 9.95 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}
