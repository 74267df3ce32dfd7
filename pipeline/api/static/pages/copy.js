// Copying text, also where a page came over plain HTTP and browsers offer no clipboard.

/** Copy what an element shows. Return whether it was copied; else it is selected, for the person to copy. */
export async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
    return true;
  } catch {
    select(element);
    return document.execCommand("copy");
  }
}

function select(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}
