// Copying text, also where a page came over plain HTTP and browsers offer no clipboard.

/** Copy what an element shows. Return whether it was copied; else it is selected, for the person to copy. */
export async function copy(element) {
  const text = element.value ?? element.textContent;
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    select(element);
    return document.execCommand("copy");
  }
}

function select(element) {
  if (element.select) {
    element.select();
    return;
  }
  const range = document.createRange();
  range.selectNodeContents(element);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}
