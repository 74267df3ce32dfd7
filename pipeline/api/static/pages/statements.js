// The list of statements: one line a month, each leading to the month's page, its file and its proof.

import { read } from "./api.js";
import { at } from "./form.js";
import { follow } from "./live.js";
import { shown } from "./money.js";
import { made } from "./show.js";

const EVERY_MS = 60_000;
const MONTH = new Intl.DateTimeFormat("en-IN", { timeZone: "UTC", month: "long", year: "numeric" });

// On a phone a cell shows its name itself, as there is no line of headings.
function amount(text, name) {
  const cell = made("td", "number money", shown(text));
  cell.dataset.value = text;
  cell.dataset.name = name;
  return cell;
}

function row(statement) {
  const line = made("tr", "");
  line.dataset.month = statement.month;
  const name = made("th", "");
  name.scope = "row";
  const link = made("a", "", MONTH.format(new Date(`${statement.month}-01T00:00:00Z`)));
  link.href = `/me/statements/${statement.month}`;
  name.append(link);
  if (!statement.closed) name.append(" ", made("span", "small", "so far"));
  const closing = amount(statement.closing_inr, "Closing");
  closing.classList.add("closing");
  const file = made("a", "", "CSV");
  file.href = `/me/statements/${statement.month}?as=csv`;
  file.setAttribute("aria-label", `${link.textContent} as CSV`);
  const proof = made("a", "", "Proof");
  proof.href = `/me/statements/${statement.month}/proof`;
  proof.setAttribute("aria-label", `${link.textContent}, its proof`);
  const files = made("td", "number file");
  files.append(file, " ", proof);
  line.append(
    name,
    amount(statement.opening_inr, "Opening"),
    amount(statement.credits_inr, "Credits"),
    amount(statement.debits_inr, "Requests"),
    closing,
    files,
  );
  return line;
}

follow(async () => {
  const { as_of, statements } = await read("/me/statements");
  at("statements").replaceChildren(...statements.map(row));
  at("statements-none").hidden = statements.length > 0;
  at("statements-table").hidden = statements.length === 0;
  at("statements-waiting").hidden = true;
  return as_of;
}, EVERY_MS);
