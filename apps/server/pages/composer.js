// Where messages are written: the text, what it answers or changes, who is mentioned, and telling others that one types.

import { fileOf, fileOfText, summary } from "./body.js";
import { $, toast } from "./dom.js";

/** The server refuses longer texts. */
const TEXT_MAX = 5_000;
/** From here on the counter is shown. */
const TEXT_NEAR = 4_500;
const MENTIONS_MAX = 50;
/** Typing is told at most this often. */
const TYPING_EVERY_MS = 3_000;

export class Composer {
  #page;
  #drafts = new Map(); // topic -> text
  #writer = null; // whose drafts they are
  #mode = null; // {edit: message} or {reply: message}
  #kept = ""; // what was typed before an edit began
  #toldAt = 0;

  /** `page` has {session, thread, publish(body), people()}. */
  constructor(page) {
    this.#page = page;
    $("composer").addEventListener("submit", (event) => this.#submit(event));
    $("text").addEventListener("input", () => this.#typed());
    $("text").addEventListener("keydown", (event) => this.#keyed(event));
    $("mode-cancel").addEventListener("click", () => this.cancel());
    $("attach").addEventListener("click", () => this.#askLink());
    $("link-form").addEventListener("submit", (event) => this.#sendLink(event));
    $("link-cancel").addEventListener("click", () => $("link-dialog").close());
  }

  /** What was typed and not sent, by topic. */
  get drafts() {
    return this.#drafts;
  }

  /** Another conversation is open: `before` keeps its draft. */
  open(before) {
    if (before) this.#keep(before);
    const { user, guest } = this.#page.session.identity;
    const writer = `${guest ? "guest" : "account"} ${user}`;
    if (writer !== this.#writer) this.#drafts.clear();
    this.#writer = writer;
    this.#mode = null;
    this.#toldAt = 0;
    this.#set(this.#drafts.get(this.#page.thread.topic) ?? "");
    this.#showMode();
  }

  /** Nobody is signed in any more: what was typed is there for the same user's return, and for nobody else. */
  close() {
    if (this.#page.thread) this.#keep(this.#page.thread.topic);
    this.#mode = null;
    this.#set("");
    this.#showMode();
  }

  edit(message) {
    if (!this.#mode?.edit) this.#kept = $("text").value;
    this.#mode = { edit: message };
    this.#set(this.#page.thread.bodyOf(message).text ?? "");
    this.#showMode();
  }

  reply(message) {
    this.cancel();
    this.#mode = { reply: message };
    this.#showMode();
  }

  /** Neither an edit nor an answer any more. */
  cancel() {
    if (this.#mode?.edit) this.#set(this.#kept);
    this.#mode = null;
    this.#showMode();
  }

  /** Whether something can be written here, or why not. */
  allow(reason) {
    $("text").disabled = $("attach").disabled = Boolean(reason);
    $("composer").classList.toggle("is-closed", Boolean(reason));
    $("text").placeholder = reason || "Message";
    this.#showSend();
  }

  #submit(event) {
    event.preventDefault();
    const text = $("text").value.trim();
    if (!text || $("text").disabled) return;
    if ([...text].length > TEXT_MAX) return toast(`A message has at most ${TEXT_MAX.toLocaleString()} characters.`);
    if (!this.#page.publish(this.#bodyOf(text))) return;
    const isEdit = Boolean(this.#mode?.edit);
    this.#mode = null;
    this.#toldAt = 0; // the message itself says that typing is over
    this.#set(isEdit ? this.#kept : "");
    this.#showMode();
  }

  #bodyOf(text) {
    const mentions = this.#mentionsIn(text);
    const named = mentions.length ? { mentions } : {};
    if (this.#mode?.edit) return { type: "edit", offset: this.#mode.edit.offset, text, ...named };
    const answers = this.#mode?.reply ? { reply_to: this.#mode.reply.offset } : {};
    return { ...(fileOfText(text) ?? { type: "text", text }), ...answers, ...named };
  }

  #mentionsIn(text) {
    const known = new Set(this.#page.people());
    const named = [...text.matchAll(/@([\p{L}\p{N}._-]+)/gu)].map(([, name]) => name).filter((name) => known.has(name));
    return [...new Set(named)].slice(0, MENTIONS_MAX);
  }

  #keyed(event) {
    if (event.key === "Escape" && this.#mode) {
      event.stopPropagation();
      return this.cancel();
    }
    if (event.key === "ArrowUp" && !$("text").value && !this.#mode) {
      const last = this.#page.lastOwn();
      if (last) {
        event.preventDefault();
        this.edit(last);
      }
      return;
    }
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("composer").requestSubmit();
  }

  #typed() {
    this.#fit();
    this.#showSend();
    this.#tell(Boolean($("text").value.trim()) && !this.#mode?.edit);
  }

  #tell(isTyping) {
    const now = Date.now();
    if (isTyping ? now - this.#toldAt < TYPING_EVERY_MS : !this.#toldAt) return;
    this.#toldAt = isTyping ? now : 0;
    this.#page.session.ephemeral(this.#page.thread.topic, "typing", { typing: isTyping });
  }

  #keep(topic) {
    const text = this.#mode?.edit ? this.#kept : $("text").value;
    if (text.trim()) this.#drafts.set(topic, text);
    else this.#drafts.delete(topic);
    if (this.#toldAt) this.#page.session.ephemeral(topic, "typing", { typing: false });
  }

  #set(text) {
    $("text").value = text;
    this.#fit();
    this.#showSend();
  }

  #fit() {
    $("text").style.height = "auto";
    $("text").style.height = `${$("text").scrollHeight}px`;
  }

  #showSend() {
    const length = [...$("text").value].length;
    $("send").disabled = !$("text").value.trim() || length > TEXT_MAX || $("text").disabled;
    $("counter").textContent = length > TEXT_NEAR ? `${length.toLocaleString()} / ${TEXT_MAX.toLocaleString()}` : "";
    $("counter").classList.toggle("over", length > TEXT_MAX);
  }

  #showMode() {
    const message = this.#mode?.edit ?? this.#mode?.reply;
    $("mode").hidden = !message;
    if (!message) return;
    $("mode-what").textContent = this.#mode.edit ? "Edit your message" : `Answer to ${message.from}`;
    $("mode-text").textContent = summary(this.#page.thread.bodyOf(message));
    $("text").focus();
  }

  #askLink() {
    $("link-form").reset();
    $("link-problem").textContent = "";
    $("link-dialog").showModal();
    $("link-url").focus();
  }

  #sendLink(event) {
    event.preventDefault();
    try {
      const field = (id) => $(id).value.trim();
      const body = fileOf(field("link-url"), field("link-kind"), field("link-name"), field("link-caption"));
      const answers = this.#mode?.reply ? { reply_to: this.#mode.reply.offset } : {};
      if (!this.#page.publish({ ...body, ...answers })) return;
      this.cancel();
      $("link-dialog").close();
    } catch (error) {
      $("link-problem").textContent = error.message;
      $("link-url").focus();
    }
  }
}
