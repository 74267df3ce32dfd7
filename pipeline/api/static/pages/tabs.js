// The tabs between pages: on a narrow screen that of this page is in sight, and they keep the filters: those of this page, or else
// those of the page that led here.

import { keepInTabs, keptIn } from "./filters.js";

function ofReferrer() {
  const from = document.referrer && new URL(document.referrer);
  return from && from.origin === location.origin ? keptIn(from.search) : new URLSearchParams();
}

const own = keptIn(location.search);
keepInTabs(String(own) ? own : ofReferrer());

const here = document.querySelector(".top nav [aria-current]");
if (here) {
  const row = here.parentElement;
  row.scrollLeft = here.offsetLeft - row.offsetLeft - (row.clientWidth - here.offsetWidth) / 2;
}
