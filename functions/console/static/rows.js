// Long tables: only the rows near the visible part are in the page.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

// A shorter table is in the page as a whole.
export const MANY = 60;
// Rows come and go in blocks, so most steps of scrolling draw nothing.
const BLOCK = 10;
// The next page of a list is asked for when so many rows are left.
const AHEAD = 50;
const FIRST_GUESS = 40;

// Returns which rows of `count` are near, the heights of those before and after, and the widths of the columns.
export function useNear(frame, count, onEnd) {
  const heights = useRef([]);
  const focused = useRef(null);
  const [near, setNear] = useState({ first: 0, last: MANY });
  const [widths, setWidths] = useState(null);
  const known = heights.current.filter((height) => height);
  const guess = known.length ? known.reduce((sum, height) => sum + height, 0) / known.length : FIRST_GUESS;
  const height = (first, last) => {
    let sum = 0;
    for (let index = first; index < last; index += 1) sum += heights.current[index] || guess;
    return sum;
  };

  useLayoutEffect(() => {
    for (const row of frame.current.querySelectorAll("tbody > tr[aria-rowindex]")) {
      heights.current[row.ariaRowIndex - 2] = row.getBoundingClientRect().height;
    }
    // A row that had the focus may be gone. The frame then takes it, so that the keys go on scrolling.
    if (focused.current && !focused.current.isConnected) {
      if (document.activeElement === document.body) frame.current.focus({ preventScroll: true });
      focused.current = null;
    }
  });
  // Other rows would have other widths, so those of the first rows stay.
  useLayoutEffect(() => {
    if (!widths) setWidths([...frame.current.querySelectorAll("th")].map((cell) => cell.offsetWidth));
  }, [widths]);
  useEffect(() => {
    const node = frame.current;
    let { clientWidth } = node;
    const place = () => {
      let [index, bottom] = [0, 0];
      const rowAt = (y) => {
        while (index < count && bottom + (heights.current[index] || guess) <= y) bottom += heights.current[index++] || guess;
        return index;
      };
      const first = BLOCK * Math.max(0, Math.floor(rowAt(node.scrollTop) / BLOCK) - 1);
      const last = BLOCK * (Math.ceil((rowAt(node.scrollTop + node.clientHeight) + 1) / BLOCK) + 1);
      setNear((old) => (old.first === first && old.last === last ? old : { first, last }));
    };
    const observer = new ResizeObserver(() => {
      if (node.clientWidth !== clientWidth) setWidths(null);
      clientWidth = node.clientWidth;
      place();
    });
    const onFocus = (event) => (focused.current = event.target === node ? null : event.target);
    observer.observe(node);
    node.addEventListener("scroll", place, { passive: true });
    node.addEventListener("focusin", onFocus);
    return () => {
      observer.disconnect();
      node.removeEventListener("scroll", place);
      node.removeEventListener("focusin", onFocus);
    };
  }, [count, guess]);
  useEffect(() => {
    if (near.last > count - AHEAD) onEnd?.();
  }, [near.last, count, Boolean(onEnd)]);
  const first = Math.min(near.first, Math.max(0, count - MANY));
  const last = Math.min(near.last, count);
  return { first, last, above: height(0, first), below: height(last, count), widths };
}
