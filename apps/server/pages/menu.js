// What can be done about one message: a small menu at its row.

import { summary } from "./body.js";
import { $, arrowKeys, button, copy } from "./dom.js";

/** The server's limits as they come; it has the last word. */
const EDIT_MS = 15 * 60_000;
const RECALL_MS = 2 * 60_000;
const GAP_PX = 6;

export class Menu {
  #page;
  #opener = null;

  /** `page` has {session, conversation, composer, publish(body)}. */
  constructor(page) {
    this.#page = page;
    arrowKeys($("menu"), "button");
    addEventListener("click", (event) => !event.target.closest("#menu, .act") && this.close());
    addEventListener("keydown", (event) => event.key === "Escape" && this.close(true));
    // Whoever scrolls is done with it; what scrolls by itself, as a message comes, takes it from nobody.
    for (const scrolls of ["wheel", "touchmove"]) $("scroller").addEventListener(scrolls, () => this.close(), { passive: true });
    $("scroller").addEventListener("pointerdown", (event) => !event.target.closest(".act") && this.close());
  }

  open(row, opener) {
    const items = row.dataset.state === "failed" ? this.#failedItems(row) : this.#items(row);
    if (!items.length) return;
    this.#opener = row;
    $("menu").replaceChildren(...items.map(([text, run, act]) => this.#item(text, run, act)));
    $("menu").hidden = false;
    const at = opener.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = $("menu");
    const top = at.bottom + GAP_PX + height > innerHeight ? at.top - height - GAP_PX : at.bottom + GAP_PX;
    $("menu").style.top = `${Math.max(GAP_PX, top)}px`;
    $("menu").style.left = `${Math.max(GAP_PX, Math.min(at.left, innerWidth - width - GAP_PX))}px`;
    $("menu").firstElementChild.focus();
  }

  close(isBack = false) {
    if ($("menu").hidden) return;
    $("menu").hidden = true;
    if (isBack) this.#opener?.focus({ preventScroll: true });
  }

  #item(text, run, act) {
    const choose = () => {
      this.close();
      run();
    };
    return button(act === "recall" ? "danger" : "", text, choose, { role: "menuitem", "data-act": act });
  }

  #items(row) {
    const { conversation, composer, publish, session } = this.#page;
    const { thread, role } = conversation;
    const message = thread.find(Number(row.dataset.offset));
    const body = message && thread.bodyOf(message);
    if (!body || body.type === "recalled") return [];
    const [isOwn, age] = [message.from === session.user && !session.identity.guest, Date.now() - message.at_ms];
    const isAdmin = role === "admin" || role === "owner";
    const items = [["Reply", () => composer.reply(message), "reply"]];
    items.push([body.text ? "Copy text" : "Copy address", () => copy(body.text ?? body.file?.url ?? "", "Copied."), "copy"]);
    if (isOwn && age < EDIT_MS) items.push(["Edit", () => composer.edit(message), "edit"]);
    const recall = () => confirm(`Recall “${summary(body).slice(0, 60)}”?`) && publish({ type: "recall", offset: message.offset });
    if (isAdmin || (isOwn && age < RECALL_MS)) items.push(["Recall", recall, "recall"]);
    return items;
  }

  #failedItems(row) {
    const { client_id: _, ...body } = row.entry.body;
    const again = () => this.#page.publish(body) && row.remove();
    return [["Send again", again, "again"], ["Remove", () => row.remove(), "drop"]];
  }
}
