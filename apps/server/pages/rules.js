// The form of a group's name and rules, which goes on being edited while the group changes.

import { button, element } from "./dom.js";
import { lasting } from "./redraw.js";

const NAME_MAX = 64;
/** Times between two messages of one member that can be chosen, in seconds. */
const SLOW_SECS = [0, 5, 30, 60, 300];

export class Rules {
  root;
  #fields;
  #slow;

  /** `save({name, open, slow_ms})` resolves to whether the group has become so. */
  constructor(save) {
    const [name, open] = [element("input"), element("input")];
    Object.assign(name, { maxLength: NAME_MAX, required: true, id: "group-name" });
    Object.assign(open, { type: "checkbox", id: "group-open" });
    this.#slow = Object.assign(element("select"), { id: "group-slow" });
    for (const secs of SLOW_SECS) this.#offer(secs * 1_000);
    this.#fields = {
      name: { read: () => name.value.trim(), write: (text) => (name.value = text), told: "" },
      open: { read: () => open.checked, write: (is) => (open.checked = is), told: false },
      slow_ms: { read: () => Number(this.#slow.value), write: (ms) => this.#choose(ms), told: 0 },
    };
    const submit = button("quiet is-main", "Save", null, { "data-act": "save" });
    submit.type = "submit";
    const form = element("form", "rules", field("Name", name), field("Members write", this.#slow), element("label", "check", open, "Everybody may join"), submit);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const sent = Object.fromEntries(Object.entries(this.#fields).map(([key, { read }]) => [key, read()]));
      if (!(await save(sent))) return;
      for (const [key, one] of Object.entries(this.#fields)) one.told = sent[key];
      this.root.open = false;
    });
    this.root = lasting(element("details", "settings", element("summary", "", "Settings"), form));
  }

  /** Shows what the group has now, except where somebody is editing. */
  show(group) {
    for (const [key, one] of Object.entries(this.#fields)) {
      const isEdited = one.read() !== one.told;
      one.told = group[key];
      if (!isEdited && one.read() !== group[key]) one.write(group[key]);
    }
  }

  #choose(ms) {
    if (![...this.#slow.options].some(({ value }) => Number(value) === ms)) this.#offer(ms);
    this.#slow.value = ms;
  }

  #offer(ms) {
    const option = Object.assign(element("option", "", ms ? `One message in ${ms / 1_000} s` : "As fast as they like"), { value: ms });
    this.#slow.add(option, [...this.#slow.options].find(({ value }) => Number(value) > ms));
  }
}

function field(text, input) {
  return element("label", "field", element("span", "", text), input);
}
