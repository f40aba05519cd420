// A new conversation: a group of people that are found by name, or a look for one person.

import { Picker } from "./chats.js";
import { $, toast } from "./dom.js";

export class Creation {
  #page;
  #picker = null;

  /** `page` has {session, inbox, open(topic)}. */
  constructor(page) {
    this.#page = page;
    $("new-chat").addEventListener("click", () => this.#show());
    $("new-cancel").addEventListener("click", () => $("new-dialog").close());
    $("new-form").addEventListener("submit", (event) => this.#create(event));
  }

  #show() {
    $("new-form").reset();
    $("new-problem").textContent = "";
    this.#picker = new Picker(this.#page.session, $("new-people"));
    $("new-dialog").showModal();
    $("new-name").focus();
  }

  async #create(event) {
    event.preventDefault();
    const name = $("new-name").value.trim();
    if (!name) {
      $("new-problem").textContent = "Please give the group a name.";
      return $("new-name").focus();
    }
    try {
      const fields = { name, users: this.#picker.users, open: $("new-open").checked };
      const { topic, invited = [] } = await this.#page.session.request("chat.create", fields);
      if (invited.length) toast(`Asked: ${invited.join(", ")}`);
      $("new-dialog").close();
      this.#page.inbox.look();
      this.#page.open(topic);
    } catch (error) {
      $("new-problem").textContent = error.message;
    }
  }
}
