// Amounts of money as text, digit for digit: no number type ever holds one.

/** Parse JSON, leaving every amount and price (fields named for rupees, inr, and those of `spend_inr_per_day`) as the text the server wrote. */
export function parseExactly(text) {
  // Inside a JSON string every quote has a backslash before it, so this can only match a field's name.
  return JSON.parse(text.replace(/"((?:\w+_)?inr(?:_per_mtok)?|low|likely|high)":\s*(-?[0-9][0-9.eE+-]*)/g, '"$1":"$2"'));
}

/** Split an amount into { sign, rupees, paise, below }: grouped the Indian way, below a paisa apart. */
export function parts(text) {
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  if (!match) return { sign: "", rupees: text, paise: "", below: "" };
  const [, minus, whole, fraction = ""] = match;
  const digits = fraction.replace(/0+$/, "");
  const isZero = /^0+$/.test(whole) && digits === "";
  return {
    sign: minus && !isZero ? "-" : "",
    rupees: grouped(whole),
    paise: digits.slice(0, 2).padEnd(2, "0"),
    below: digits.slice(2),
  };
}

function grouped(whole) {
  const last = whole.slice(-3);
  const before = whole.slice(0, -3).replace(/\B(?=(\d\d)+$)/g, ",");
  return before ? `${before},${last}` : last;
}

/** Write an amount as people read it: ₹1,23,456.78, or ₹0.0061 where it is smaller than a paisa. */
export function shown(text) {
  const { sign, rupees, paise, below } = parts(text);
  return paise === "" ? rupees : `${sign}₹${rupees}.${paise}${below}`;
}

/** Put an amount into an element, what is below a paisa in smaller type. */
export function fill(element, text, plus = "") {
  const { sign, rupees, paise, below } = parts(text);
  element.replaceChildren(`${sign || plus}₹${rupees}.${paise}`);
  if (below) {
    const small = document.createElement("span");
    small.className = "below";
    small.textContent = below;
    element.append(small);
  }
}

/** Whether an amount is zero or less. */
export function isSpent(text) {
  return text.startsWith("-") || /^[0.]+$/.test(text);
}

/** Whether one amount is less than another, by their digits. */
export function isBelow(one, other) {
  return nano(one) < nano(other);
}

/** Return an amount as nano-rupees, a BigInt: what sums are made of. */
export function nano(text) {
  const [whole, fraction = ""] = text.split(".");
  return BigInt(whole + fraction.padEnd(9, "0").slice(0, 9));
}

/** Return nano-rupees as an amount, with the digits that it needs and no more: what the API would write. */
export function amount(nanos) {
  const digits = String(nanos < 0n ? -nanos : nanos).padStart(10, "0");
  const fraction = digits.slice(-9).replace(/0+$/, "");
  return `${nanos < 0n ? "-" : ""}${digits.slice(0, -9)}${fraction ? `.${fraction}` : ""}`;
}

/** Write an amount short: two decimals from a rupee on, three digits that say something below it; never 0.00. */
export function brief(text) {
  const { sign, rupees, paise, below } = parts(text);
  if (paise === "") return rupees;
  if (rupees !== "0") return `${sign}₹${rupees}.${paise}`;
  const fraction = paise + below;
  const zeros = /^0*/.exec(fraction)[0].length;
  return `${sign}₹0.${fraction.slice(0, Math.max(2, zeros + 3)).replace(/(?<=..)0+$/, "")}`;
}

/** Return what a person typed as a JSON number with at most two decimals, or null. */
export function typed(text) {
  const match = /^(?:₹|Rs\.?)?\s*(\d[\d,]*)(?:\.(\d{1,2}))?$/i.exec(text.trim());
  if (!match) return null;
  const whole = match[1].replaceAll(",", "").replace(/^0+(?=\d)/, "");
  return match[2] ? `${whole}.${match[2]}` : whole;
}
