// What can be done about a conversation of the list.

import { button, element, toast } from "./dom.js";
import { redraw } from "./redraw.js";

/** Buttons that mute, pin or forget a conversation of the list; nothing for one that is not there. */
export function lineActions({ session, inbox, thread, leaveTo }) {
  const acts = element("div", "acts line-acts");
  const line = inbox.get(thread.topic);
  acts.dataset.key = "line";
  acts.dataset.line = line ? [line.muted, line.pinned, line.left].join() : "";
  if (!line) return acts;
  const set = async (fields) => {
    try {
      await session.request("inbox.set", { topic: thread.topic, ...fields });
      inbox.told({ topic: thread.topic, entry: { read: line.read, muted: line.muted, pinned: line.pinned, ...(line.left && { left_ms: 1 }), ...fields } });
    } catch (error) {
      toast(error.message);
    }
  };
  const forget = async () => {
    await session.request("inbox.forget", { topic: thread.topic }).then(leaveTo, (error) => toast(error.message));
  };
  acts.append(
    button("quiet", line.muted ? "Unmute" : "Mute", () => set({ muted: !line.muted }), { "data-act": "mute" }),
    button("quiet", line.pinned ? "Unpin" : "Pin", () => set({ pinned: !line.pinned }), { "data-act": "pin" }),
  );
  if (thread.place.kind === "direct" || line.left) acts.append(button("quiet", "Remove from list", forget, { "data-act": "forget" }));
  return acts;
}

/** The list has changed: draws the buttons anew if they would be others. */
export function refreshLineActions(page) {
  const old = document.querySelector(".line-acts");
  if (!old) return;
  const acts = lineActions(page);
  if (acts.dataset.line === old.dataset.line) return;
  old.dataset.line = acts.dataset.line;
  redraw(old, ...acts.childNodes);
}
