// The tabs between pages keep the filters: those of this page, or else those of the page that led here.

import { keepInTabs, keptIn } from "./filters.js";

function ofReferrer() {
  const from = document.referrer && new URL(document.referrer);
  return from && from.origin === location.origin ? keptIn(from.search) : new URLSearchParams();
}

const own = keptIn(location.search);
keepInTabs(String(own) ? own : ofReferrer());
