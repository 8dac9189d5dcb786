// What changed in a text, as keys can do it.

/**
 * How to get from one text to the other with the caret at the end.
 * @returns {{removed: number, added: string}} characters to delete, then text to write
 */
export function difference(before, after) {
  const was = Array.from(before);
  const is = Array.from(after);
  let same = 0;
  while (same < was.length && same < is.length && was[same] === is[same]) same += 1;
  return { removed: was.length - same, added: is.slice(same).join('') };
}
