// The webhook of an org's notices: set, its secret shown, and removed. The page knows of its URL no more than the host.

import { change } from "./api.js";
import { at, doing, mark, say } from "./form.js";
import { reveal, start as startSecret } from "./secret.js";

/** Prepare the form and its dialogs; `refresh` asks what is set. Returns what shows the host that is, null where none is. */
export function start(refresh) {
  const form = at("webhook");
  let set = null;
  startSecret();
  doing(form, "submit", "webhook-form-result", async () => {
    const { url, new_secret } = form.elements;
    const text = url.value.trim();
    if (!text) {
      say("webhook-form-result", "Put in the URL of your server.", "bad");
      mark(form, "url");
      return;
    }
    const answer = await change("PUT", "/me/notices/webhook", { url: text, new_secret: new_secret.checked });
    form.reset();
    reveal("The webhook's signing secret", answer.secret);
    await refresh();
    say("webhook-form-result", `Notices are posted to ${set}.`, "good");
  });
  at("webhook-remove").addEventListener("click", () => {
    at("remove-words").textContent = `Nothing more is posted to ${set}, but what was on its way before. Another webhook, or this one set again, has a new secret.`;
    say("remove-result", "");
    at("remove-dialog").showModal();
  });
  at("remove-dialog").querySelector("[data-close]").addEventListener("click", () => at("remove-dialog").close());
  doing(at("remove-now"), "click", "remove-result", async () => {
    await change("PUT", "/me/notices/webhook", { url: null });
    at("remove-dialog").close();
    await refresh();
    say("webhook-form-result", "The webhook is removed.", "good");
    at("webhook-title").focus();
  });

  return {
    show(host) {
      set = host;
      at("webhook-new").hidden = at("webhook-remove").hidden = at("webhook-kept").hidden = host === null;
    },
  };
}
