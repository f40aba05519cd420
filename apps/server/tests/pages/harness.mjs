// What the checks of the pages share: a browser, one line per check, and waiting for what should happen.
//
// Needs playwright-core (NODE_PATH or the working directory). With PAGES=folder the pages come from there and not from the
// server, for whoever changes them; with SHOTS=folder pictures of the pages are put there.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join } from "node:path";

export const BASE = process.env.BASE ?? "http://127.0.0.1:8080";
const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const PAGES = process.env.PAGES;
/** A page that comes from nowhere may otherwise not connect to this machine. */
const FROM_FOLDER = "--disable-features=LocalNetworkAccessChecks";
/** Whatever should happen happens within this time, or the check has failed. */
export const PATIENCE_MS = 10_000;
/** Tells the names and texts of one run from those of another. */
export const RUN = Date.now().toString(36).slice(-5);

/** What consoles said that they should not. */
const errors = [];
let failed = 0;
let browser = null;

/** Runs `story(browser)`, and ends the process with what it found. */
export async function tell(story) {
  const { chromium } = load("playwright-core");
  browser = await chromium.launch({ executablePath: CHROMIUM, args: PAGES ? [...FLAGS, FROM_FOLDER] : FLAGS });
  try {
    await story(browser);
  } catch (error) {
    check(false, `the story goes on to its end: ${process.env.SHOTS ? error.stack : error.message.split("\n")[0]}`);
  }
  check(errors.length === 0, `no error in a console${errors.map((error) => `\n     ${error}`).join("")}`);
  await browser.close();
  console.log(failed ? `FAILED: ${failed}` : "all good");
  process.exit(failed ? 1 : 0);
}

/** A page in a browser profile of its own, which fails the run on any error of its console. `meddle` runs in it first. */
export async function newPage(name, options = {}, meddle = null) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  if (PAGES) await context.route(/\/(chat\?|chat$|assets\/)/, (route) => serve(route));
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.on("pageerror", (error) => errors.push(`${name}: ${error.message}`));
  page.on("console", (line) => line.type() === "error" && errors.push(`${name}: ${line.text()}`));
  if (meddle) await page.addInitScript(meddle);
  return page;
}

async function serve(route) {
  const name = basename(new URL(route.request().url()).pathname);
  const response = await route.fetch();
  const headers = { ...response.headers(), "content-type": TYPES[name.split(".").at(-1)] ?? "text/html; charset=utf-8" };
  await route.fulfill({ status: 200, headers, body: readFileSync(join(PAGES, name === "chat" ? "chat.html" : name)) });
}

const TYPES = { js: "text/javascript", css: "text/css", svg: "image/svg+xml" };

export function check(holds, what) {
  if (!holds) failed += 1;
  console.log(`${holds ? "ok  " : "FAIL"} ${what}`);
}

export async function until(holds) {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end) {
    if (await holds()) return true;
    await pause(50);
  }
  return false;
}

export async function shot(page, name) {
  if (process.env.SHOTS) await page.screenshot({ path: join(process.env.SHOTS, `${name}.png`) });
}

export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** ES modules look neither at NODE_PATH nor at the working directory; `require` can. */
function load(name) {
  try {
    return createRequire(join(process.cwd(), "here.js"))(name);
  } catch {
    return createRequire(import.meta.url)(name);
  }
}
