// The dialog that shows a secret: copied or selected by hand, put away on purpose alone, and gone from the page then.

import { copy } from "./copy.js";
import { at, say } from "./form.js";

/** Prepare the dialog. */
export function start() {
  const dialog = at("secret-dialog");
  for (const button of dialog.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const copied = await copy(at(button.dataset.copy));
      say("secret-result", copied ? "Copied." : "It is selected: copy it with Ctrl-C or Cmd-C.", copied ? "good" : "");
    });
  }
  // A secret is not put away by a key that was meant for something else.
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "Escape") event.preventDefault();
  });
  at("secret-done").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => put("", ""));
}

/** Show a secret, and where the dialog has a place for it a command to try it with. */
export function reveal(title, secret, command = "") {
  at("secret-title").textContent = title;
  put(secret, command);
  say("secret-result", "");
  at("secret-dialog").showModal();
  at("secret").focus();
}

function put(secret, command) {
  at("secret").textContent = secret;
  const place = at("secret-curl");
  if (place) place.textContent = command;
}
