/** The page's element with that id. */
export const $ = (id) => document.getElementById(id);

/** A new element: its properties, and what is inside. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Sets a text only where it is another one: a live region is read aloud at each change. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
