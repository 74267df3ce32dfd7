// The dialogs of the page of keys: making and changing one, and the question before it is revoked.

import { change, changePatiently, newKey, read } from "./api.js";
import { at, doing, mark, say } from "./form.js";
import { typed } from "./money.js";
import { reveal, start as startSecret } from "./secret.js";
import { dayOf, longDay } from "./show.js";

const AT_GATEWAY = "Gateways know within a second.";
const asked = { text: "", key: "" };
let changing = null;
let revoking = null;

/** Prepare the dialogs. `gateway` is where programs send requests; `done(kind, words)` is told. */
export function start({ gateway, done }) {
  for (const button of document.querySelectorAll("dialog [data-close]")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  startSecret();
  doing(at("key-form"), "submit", "key-form-result", () => (changing ? sendChange(done) : sendKey(gateway, done)));
  doing(at("token-form"), "submit", "token-form-result", () => sendToken(done));
  doing(at("revoke-now"), "click", "revoke-result", () => revoke(done));
  return { makeKey, makeToken: () => open("token"), changeKey, askToRevoke };
}

function open(kind) {
  const form = at(`${kind}-form`);
  form.reset();
  mark(form);
  say(`${kind}-form-result`, "");
  at(`${kind}-dialog`).showModal();
}

function makeKey() {
  changing = null;
  open("key");
  show({ title: "New key", button: "Make the key" });
}

function changeKey(key) {
  changing = key;
  open("key");
  show({ title: `Change “${key.name}”`, button: "Save" });
  const fields = at("key-form").elements;
  fields.name.value = key.name;
  for (const name of ["budget_inr", "daily_limit", "rpm_limit"]) fields[name].value = key[name] ?? "";
  const keep = fields.expires_days.options[0];
  keep.textContent = key.expires_at === null ? "Never, as it is" : `${longDay(dayOf(key.expires_at))}, as it is`;
  fields.expires_days.value = "keep";
}

/** Show the dialog for making or for changing: a tier is for good, and an expiry may stay as it is. */
function show({ title, button }) {
  at("key-dialog-title").textContent = title;
  at("key-form").querySelector("[type=submit]").textContent = button;
  at("key-tier").hidden = changing !== null;
  const keep = at("key-expires").options[0];
  keep.hidden = keep.disabled = changing === null;
}

/** Return what the form of a key says, as the API takes it; null where a field says nothing that could be meant. */
function keyGiven() {
  const form = at("key-form");
  const fields = form.elements;
  const given = { name: fields.name.value.trim() };
  if (!given.name) return wrong(form, "name", "Give it a name.");
  given.budget_inr = fields.budget_inr.value.trim() ? typed(fields.budget_inr.value) : undefined;
  if (given.budget_inr === null) return wrong(form, "budget_inr", "Put in an amount in rupees, for example 500.");
  for (const name of ["daily_limit", "rpm_limit"]) {
    const text = fields[name].value.trim().replaceAll(",", "");
    if (text && !/^[1-9]\d*$/.test(text)) return wrong(form, name, "Put in a whole number of requests, or leave it empty.");
    given[name] = text || undefined;
  }
  const expires = fields.expires_days.value;
  given.expires_days = expires === "keep" ? "keep" : expires || undefined;
  return given;
}

function wrong(form, name, words) {
  say(`${form.id}-result`, words, "bad");
  mark(form, name);
  return null;
}

/** Ask for a key or token to be made. Where nobody knows whether it was, the same asked again makes no second one. */
async function makeOnce(path, given) {
  const text = JSON.stringify(given);
  if (asked.text !== path + text) Object.assign(asked, { text: path + text, key: newKey() });
  try {
    const made = await changePatiently("POST", path, text, asked.key);
    asked.text = "";
    return made;
  } catch (failure) {
    if (!failure.passes) asked.text = "";
    throw failure;
  }
}

async function sendKey(gateway, done) {
  const given = keyGiven();
  if (given === null) return;
  given.tier = at("key-form").elements.tier.value;
  const key = await makeOnce("/me/keys", given);
  at("key-dialog").close();
  at("secret-note").hidden = !gateway.endsWith("//GATEWAY");
  reveal("Your new key", key.key, await gatewayCommand(gateway, key.key));
  await done("keys", `“${key.name}” is made. ${AT_GATEWAY}`);
}

async function sendChange(done) {
  const given = keyGiven();
  if (given === null) return;
  const body = {};
  if (given.name !== changing.name) body.name = given.name;
  for (const name of ["budget_inr", "daily_limit", "rpm_limit"]) {
    if ((given[name] ?? "") !== String(changing[name] ?? "")) body[name] = given[name] ?? null;
  }
  if (given.expires_days !== "keep") body.expires_days = given.expires_days ?? null;
  if (Object.keys(body).length > 0) await change("PATCH", `/me/keys/${changing.key_id}`, body);
  at("key-dialog").close();
  await done("keys", Object.keys(body).length > 0 ? `“${given.name}” is changed. ${AT_GATEWAY}` : "Nothing was changed.");
}

async function sendToken(done) {
  const form = at("token-form");
  const name = form.elements.name.value.trim();
  if (!name) {
    wrong(form, "name", "Give it a name.");
    return;
  }
  const body = { name, scope: "read", expires_days: form.elements.expires_days.value };
  const token = await makeOnce("/me/tokens", body);
  at("token-dialog").close();
  const command = `curl -H 'Authorization: Bearer ${token.token}' \\\n  ${location.origin}/me/usage`;
  at("secret-note").hidden = true;
  reveal("Your new access token", token.token, command);
  await done("tokens", `“${token.name}” is made.`);
}

/** Return the command that sends a first request with a key, to a model that the catalog has. */
async function gatewayCommand(gateway, key) {
  let model = "MODEL";
  try {
    model = (await read("/v1/catalog")).routes[0]?.model ?? model;
  } catch {
    // The command is an example: without the catalog it names none of its models.
  }
  const body = JSON.stringify({ model, messages: [{ role: "user", content: "Namaste" }] });
  return [
    `curl ${gateway}/v1/chat/completions \\`,
    `  -H 'Authorization: Bearer ${key}' \\`,
    "  -H 'Content-Type: application/json' \\",
    `  -d '${body.replaceAll("'", "'\\''")}'`,
  ].join("\n");
}

/** Ask whether a key or token is to be revoked. */
function askToRevoke(kind, each) {
  revoking = { kind, each };
  const who = kind === "keys" ? "Requests with" : "Programs that read with";
  at("revoke-title").textContent = `Revoke “${each.name}”?`;
  at("revoke-words").textContent = `${who} ${each.prefix}… are refused within a second. What is revoked does not come back.`;
  say("revoke-result", "");
  at("revoke-dialog").showModal();
}

async function revoke(done) {
  const { kind, each } = revoking;
  if (kind === "keys") await change("PATCH", `/me/keys/${each.key_id}`, { revoked: true });
  else await change("DELETE", `/me/tokens/${each.id}`);
  at("revoke-dialog").close();
  await done(kind, `“${each.name}” is revoked.`);
}
