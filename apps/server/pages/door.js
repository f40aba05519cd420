// The sign-in card: as a guest, with an account, or with a new one.

import { signIn } from "./account.js";
import { $ } from "./dom.js";
import { roomName } from "./topic.js";

/** Shows the card; `enter(identity, room)` when somebody has come in. */
export class Door {
  #enter;

  constructor(enter) {
    this.#enter = enter;
    $("sign-in").addEventListener("submit", (event) => this.#submit(event));
    $("sign-in").addEventListener("change", (event) => event.target.name === "how" && this.#showWay());
  }

  show(room, problem = "") {
    $("room").hidden = true;
    $("door").hidden = false;
    $("door-room").value = room;
    $("door-problem").textContent = problem;
    document.title = "Join · Ringshard";
    this.#showWay(problem);
    $("name").focus();
  }

  hide() {
    $("door").hidden = true;
    $("room").hidden = false;
  }

  #showWay(problem = "") {
    const how = wayChosen();
    const password = $("password");
    $("password-field").hidden = how === "guest";
    $("door-room-field").hidden = how !== "guest";
    password.required = how !== "guest";
    password.autocomplete = how === "register" ? "new-password" : "current-password";
    $("enter").textContent = { guest: "Enter the room", login: "Log in", register: "Register" }[how];
    $("door-problem").textContent = problem;
  }

  async #submit(event) {
    event.preventDefault();
    const how = wayChosen();
    const name = $("name").value.trim();
    const room = roomName($("door-room").value);
    if (!name) return problem("name", "Please pick a name.");
    if (how !== "guest" && !$("password").value) return problem("password", "Please type your password.");
    if (how === "guest" && !room) return problem("door-room", "Rooms are named with a-z, 0-9, dot, dash and underscore.");
    $("enter").disabled = true;
    try {
      const identity = await signIn(how, name, $("password").value);
      $("password").value = "";
      await this.#enter(identity, room);
    } catch (error) {
      problem("name", error instanceof TypeError ? "The server cannot be reached." : error.message);
    } finally {
      $("enter").disabled = false;
    }
  }
}

function wayChosen() {
  return document.querySelector("input[name=how]:checked").value;
}

function problem(field, text) {
  $("door-problem").textContent = text;
  $(field).focus();
}
