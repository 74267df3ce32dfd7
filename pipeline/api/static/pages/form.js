// What the forms have in common: saying how it went, and not being sent twice.

/** Return the element with an id. */
export function at(id) {
  return document.getElementById(id);
}

/** Say a result where a form has its place for it: kind is "good", "bad" or "". */
export function say(id, text, kind = "") {
  const place = at(id);
  place.className = `result ${kind}`.trim();
  place.textContent = text;
}

/** Mark a field as wrong and go there, or clear all marks of a form with no field named. */
export function mark(form, name = null) {
  for (const field of form.elements) field.removeAttribute("aria-invalid");
  const wrong = name === null ? null : form.elements.namedItem(name);
  if (wrong) {
    wrong.setAttribute("aria-invalid", "true");
    wrong.focus();
  }
}

/** Run something when a form or button is used, one at a time, and say what went wrong. */
export function doing(element, event, resultId, work) {
  let busy = false;
  const form = element.closest("form");
  const button = event === "submit" ? element.querySelector("[type=submit]") : element;
  element.addEventListener(event, async (happened) => {
    happened.preventDefault();
    if (busy) return;
    busy = true;
    button.setAttribute("aria-disabled", "true");
    say(resultId, "");
    if (form) mark(form);
    try {
      await work();
    } catch (failure) {
      if (failure.words === undefined) throw failure;
      say(resultId, failure.words, "bad");
      if (form && failure.param) mark(form, failure.param);
    } finally {
      busy = false;
      button.removeAttribute("aria-disabled");
    }
  });
}
