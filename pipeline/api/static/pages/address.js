// The billing address: a PIN code fills in city and state, which stay the user's to correct.

import { change, read } from "./api.js";
import { at, doing, say } from "./form.js";

const FIELDS = ["name", "line1", "line2", "pin", "city", "state", "gstin"];
let suggested = { city: "", state: "" };

/** Show the address that is kept, in the form or as lines. */
export function show(address) {
  const form = at("address");
  if (!form) {
    at("address-shown").textContent = address ? lines(address) : "None yet.";
    return;
  }
  if (!address) return;
  for (const name of FIELDS) form.elements.namedItem(name).value = address[name] || "";
}

function lines(address) {
  return [
    address.name, address.line1, address.line2, `${address.city} ${address.pin}`, address.state,
    address.gstin && `GSTIN ${address.gstin}`,
  ].filter(Boolean).join("\n");
}

/** Let it be edited; `saved` is told the new address. */
export function start(saved) {
  const form = at("address");
  if (!form) return;
  form.elements.namedItem("pin").addEventListener("input", fillIn);
  doing(form, "submit", "address-result", async () => {
    const empty = FIELDS.find((name) => form.elements.namedItem(name).required && !valueOf(form, name));
    if (empty) {
      say("address-result", `${form.querySelector(`label[for=${empty}]`).textContent} is missing.`, "bad");
      markEmpty(form, empty);
      return;
    }
    const address = Object.fromEntries(FIELDS.map((name) => [name, valueOf(form, name) || null]));
    await change("PUT", "/me/billing/address", address);
    say("address-result", "The address is saved.", "good");
    saved(address);
  });
}

function markEmpty(form, name) {
  const field = form.elements.namedItem(name);
  field.setAttribute("aria-invalid", "true");
  field.focus();
}

function valueOf(form, name) {
  return form.elements.namedItem(name).value.trim();
}

async function fillIn() {
  const form = at("address");
  const pin = valueOf(form, "pin");
  if (!/^\d{6}$/.test(pin)) {
    say("pin-result", "");
    return;
  }
  try {
    const place = await read(`/me/billing/pin/${pin}`);
    if (valueOf(form, "pin") !== pin) return;
    for (const name of ["city", "state"]) {
      const field = form.elements.namedItem(name);
      // What somebody typed stays; an empty field and an earlier suggestion do not.
      if (field.value.trim() === "" || field.value === suggested[name]) field.value = place[name];
    }
    suggested = { city: place.city, state: place.state };
    say("pin-result", `${place.city}, ${place.state}. Correct it if your city has another name.`);
  } catch (failure) {
    if (valueOf(form, "pin") !== pin) return;
    say("pin-result", failure.status === 404 ? "This PIN code is not known. Fill in city and state yourself." : "");
  }
}
