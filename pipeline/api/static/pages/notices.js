// The page of notices: what the org is told of without asking, and where. A switch shows what holds, never what was asked for.

import { change, read } from "./api.js";
import { at, doing, say } from "./form.js";
import { follow } from "./live.js";
import { put } from "./show.js";
import { start as startWebhook } from "./webhook.js";

const EVERY_MS = 60_000;
const SWITCHES = {
  budget_reached: "Budgets",
  statement_ready: "Statements",
  unusual_hour: "Unusual hours",
  mail: "Mail",
};
const owner = at("notices").dataset.owner === "yes";
const known = { notices: null, changes: 0 };

function show(notices) {
  known.notices = notices;
  for (const name of Object.keys(SWITCHES)) {
    tell(name, notices[name] ? "On" : "Off");
    if (!owner) continue;
    at(name).disabled = false;
    at(name).checked = notices[name];
  }
  tell("webhook", notices.webhook_host === null ? "None" : notices.webhook_host);
  at("nowhere").hidden = notices.mail || notices.webhook_host !== null;
  webhook?.show(notices.webhook_host);
}

/** Put what holds of a setting beside it. */
function tell(name, words) {
  const place = document.querySelector(`[data-state="${name}"]`);
  place.className = "state";
  put(place, words);
}

/** Show what the answer of a change says; an answer to what was asked before it may be older, and is left. */
function changed(notices) {
  known.changes += 1;
  show(notices);
}

async function look() {
  const before = known.changes;
  const notices = await read("/me/notices");
  if (known.changes === before) show(notices);
  return null;
}

const webhook = owner ? startWebhook(async () => changed(await read("/me/notices"))) : null;
if (owner) {
  for (const [name, title] of Object.entries(SWITCHES)) {
    const result = name === "mail" ? "webhook-result" : "told-result";
    // The click is not let through: the switch moves once the answer is there.
    doing(at(name), "click", result, async () => {
      const wanted = !known.notices[name];
      changed(await change("PATCH", "/me/notices", { [name]: wanted }));
      say(result, `${title}: ${wanted ? "on" : "off"}.`, "good");
    });
  }
}
follow(look, EVERY_MS);
