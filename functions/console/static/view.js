// The parts of which every page is made.

import { h } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import htm from "htm";
import { MANY, useNear } from "./rows.js";
import { sectionAddress, sectionsOf } from "./sections.js";

export const html = htm.bind(h);
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 4 });
const moment = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });

export const figure = (value, digits) =>
  value === null || value === undefined || Number.isNaN(value)
    ? "–"
    : digits === undefined
      ? number.format(value)
      : Number(value).toFixed(digits);
export const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`);
// A moment is not broken into two lines.
export const when = (text) => (text ? moment.format(new Date(text)).replace(/[ \u202f]/g, "\u00a0") : "–");

// ---- Addresses: #/page/part?name=value&space=id. The space is named, so that a link shows the same to a colleague.

export function route() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const query = new URLSearchParams(search || "");
  const space = query.get("space");
  query.delete("space");
  return { parts: path.split("/").filter(Boolean).map(decodeURIComponent), query, space };
}

export function address(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

export const go = (parts, query) => {
  location.hash = address(parts, query);
};

// ---- Loading

// Loads data when `inputs` change, and again every `every` milliseconds while `isMoving(data)`.
export function useLoad(load, inputs, { every = 3000, isMoving = () => false } = {}) {
  const [state, setState] = useState({ data: undefined, error: null });
  const [round, setRound] = useState(0);
  const reload = useCallback(() => setRound((one) => one + 1), []);
  useEffect(() => {
    let current = true;
    let timer;
    const run = async () => {
      try {
        const data = await load();
        if (!current) return;
        setState({ data, error: null });
        if (isMoving(data)) timer = setTimeout(run, every);
      } catch (error) {
        if (current) setState((old) => ({ ...old, error }));
      }
    };
    run();
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [...inputs, round]);
  return { ...state, reload };
}

// Runs what a button starts. Returns [run, isRunning, error].
export function useTask(task) {
  const [state, setState] = useState({ running: false, error: null });
  const run = async (...values) => {
    setState({ running: true, error: null });
    try {
      const result = await task(...values);
      setState({ running: false, error: null });
      return result;
    } catch (error) {
      setState({ running: false, error });
      return undefined;
    }
  };
  return [run, state.running, state.error];
}

export const Problem = ({ error }) =>
  error &&
  html`<div class="problem" role="alert">
    <strong>${error.message}</strong>
    ${(error.details || []).slice(0, 10).map((one) => html`<div>${one.field}: ${one.message}</div>`)}
    ${error.requestId && html`<div class="quiet">Request ${error.requestId}</div>`}
  </div>`;

export const Loaded = ({ state, children }) =>
  html`<${Problem} error=${state.error} />
    ${state.data !== undefined ? children(state.data) : !state.error && html`<p class="quiet" role="status">Loading …</p>`}`;

// ---- Pieces

export const Page = ({ title, lead, actions, children }) => {
  useEffect(() => {
    document.title = `${title} · Inference console`;
  }, [title]);
  return html`<header class="page-head">
      <div><h1>${title}</h1>${lead && html`<p class="quiet">${lead}</p>`}</div>
      <div class="actions">${actions}</div>
    </header>
    ${children}`;
};

export const Card = ({ title, actions, children, ...rest }) =>
  html`<section class="card" ...${rest}>
    ${title && html`<div class="card-head"><h2>${title}</h2><div class="actions">${actions}</div></div>`}${children}
  </section>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

export const Status = ({ value }) => html`<span class=${`status status-${value}`}>${String(value).replace(/_/g, " ")}</span>`;

// On a wide page the menu has these links.
export const Tabs = ({ page, current }) =>
  html`<${Links} label="Sections" current=${current} links=${sectionsOf(page).map(([key, name]) => [key, name, sectionAddress(page, key)])} narrow />`;

export const Links = ({ label, links, current, narrow }) =>
  html`<nav class=${narrow ? "tabs narrow" : "tabs"} aria-label=${label}>
    ${links.map(([key, text, href]) => html`<a href=${href} aria-current=${key === current ? "page" : undefined}>${text}</a>`)}
  </nav>`;

const alignment = (column) => (column.numeric ? "numeric" : column.text ? "text" : "");
const cells = (columns, row) => columns.map((one) => html`<td class=${alignment(one)}>${one.cell(row)}</td>`);

// Columns are {name, cell(row)}, and `numeric` or `text` for sentences. A wide table scrolls in its own frame. `count` is the number of all rows,
// also of those that have not been read, and `onEnd` reads more of them.
export function Table({ label, columns, rows, empty, keyOf = (row) => row.id, selected, count, onEnd }) {
  if (!rows.length) return html`<${Empty}>${empty || "Nothing yet."}<//>`;
  if (rows.length > MANY) return html`<${LongTable} ...${{ label, columns, rows, keyOf, count, onEnd }} />`;
  return html`<div class="table-frame" tabindex="0" role="region" aria-label=${label}>
    <table>
      <thead><tr>${columns.map((one) => html`<th scope="col" class=${alignment(one)}>${one.name}</th>`)}</tr></thead>
      <tbody>${rows.map((row) => html`<tr key=${keyOf(row)} aria-selected=${selected && selected(row) ? "true" : undefined}>${cells(columns, row)}</tr>`)}</tbody>
    </table>
  </div>`;
}

function LongTable({ label, columns, rows, keyOf, count, onEnd }) {
  const frame = useRef();
  const { first, last, above, below, widths } = useNear(frame, rows.length, onEnd);
  const space = (height) => height > 0 && html`<tr class="space" aria-hidden="true"><td colspan=${columns.length} style=${{ height: `${height}px` }}></td></tr>`;
  const width = (index) => (widths ? { width: `${widths[index]}px` } : {});
  return html`<div class="table-frame" tabindex="0" role="region" aria-label=${label} ref=${frame}>
    <table class=${widths ? "long" : ""} aria-rowcount=${1 + Math.max(count || 0, rows.length)}>
      <thead><tr aria-rowindex="1">${columns.map((one, index) => html`<th scope="col" class=${alignment(one)} style=${width(index)}>${one.name}</th>`)}</tr></thead>
      <tbody>
        ${space(above)}
        ${rows.slice(first, last).map((row, index) => html`<tr key=${keyOf(row)} aria-rowindex=${first + index + 2}>${cells(columns, row)}</tr>`)}
        ${space(below)}
      </tbody>
    </table>
  </div>`;
}

// Reads a page. A search may stop before it finds a row: it goes on from there, unless nobody waits for it any more.
async function nextRows(load, after, count, isWanted) {
  let page = await load(after, count);
  while (!page.data.length && page.has_more && page.next_after && isWanted()) page = await load(page.next_after, count);
  return page;
}

// A list that pages by the API's cursors as one scrolls.
export function List({ load, inputs = [], label, columns, empty, every, isMoving, keyOf = (row) => row.id, cursor = (rows) => rows.at(-1).id }) {
  // All rows as they were when the last page came. The first page may have newer ones.
  const [read, setRead] = useState({ rows: [], has_more: null });
  const asked = useRef(0);
  useEffect(() => {
    asked.current += 1;
    setRead({ rows: [], has_more: null });
  }, inputs);
  const pageAfter = (after, count) => {
    const round = asked.current;
    return nextRows(load, after, count, () => round === asked.current);
  };
  const first = useLoad(() => pageAfter(undefined, 0), inputs, { every, isMoving: (page) => Boolean(isMoving && page.data.some(isMoving)) });
  const [next, loading, error] = useTask(async (rows, after) => {
    const round = asked.current;
    const page = await pageAfter(after || cursor(rows), rows.length);
    if (round === asked.current) setRead({ ...page, rows: joined(rows, page.data, keyOf) });
  });
  return html`<${Loaded} state=${first}>${(page) => {
    const rows = joined(page.data, read.rows, keyOf);
    const { has_more: more, next_after: after } = read.has_more === null ? page : read;
    return html`<${Table} label=${label} columns=${columns} rows=${rows} empty=${empty} keyOf=${keyOf} count=${more ? page.count : rows.length}
        onEnd=${more && !loading && !error ? () => next(rows, after) : undefined} />
      <${Problem} error=${error} />
      ${more && html`<p class="quiet">${figure(rows.length)} of ${figure(Math.max(page.count, rows.length))}${page.count_capped ? " or more" : ""} rows <button class="small" onClick=${() => next(rows, after)} disabled=${loading}>Show more</button></p>`}`;
  }}<//>`;
}

// Returns the rows of both, each once.
function joined(rows, others, keyOf) {
  const keys = new Set(rows.map(keyOf));
  return [...rows, ...others.filter((row) => !keys.has(keyOf(row)))];
}

export function Button({ task, children, kind = "", confirm: question, ...rest }) {
  const [run, running, error] = useTask(task);
  const click = () => (!question || window.confirm(question)) && run();
  return html`<button class=${kind} onClick=${click} disabled=${running || rest.disabled} aria-busy=${running} ...${rest}>${children}</button>
    <${Problem} error=${error} />`;
}

export const Field = ({ label, hint, children }) =>
  html`<label class="field"><span>${label}</span>${children}${hint && html`<small>${hint}</small>`}</label>`;

// A form whose named fields become an object. `submit` receives it.
export function Form({ submit, button, children, kind = "primary", ...rest }) {
  const [run, running, error] = useTask(submit);
  const onSubmit = async (event) => {
    event.preventDefault();
    const form = event.currentTarget;
    const values = Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
    await run(values, form);
  };
  return html`<form onSubmit=${onSubmit} ...${rest}>
    ${children}
    <${Problem} error=${error} />
    <button class=${kind} disabled=${running} aria-busy=${running}>${running ? "Working …" : button}</button>
  </form>`;
}

// The filters of a list of operations, in the address, so that a link shows the same.
export function Filters({ section, query, fields }) {
  const submit = async (values) => go(["operations", section], values);
  return html`<${Form} submit=${submit} button="Filter" kind="" key=${query.toString()}><div class="row">
    ${fields.map(([name, label, options]) => html`<${Field} label=${label}>
      ${Array.isArray(options)
        ? html`<select name=${name} value=${query.get(name) || ""}><option value="">all</option>${options.map((one) => html`<option value=${one}>${one}</option>`)}</select>`
        : html`<input name=${name} type=${options || "text"} value=${query.get(name) || ""} />`}<//>`)}
  </div><//>`;
}

export function Dialog({ title, onClose, children }) {
  const ref = useRef();
  useEffect(() => {
    ref.current.showModal();
  }, []);
  return html`<dialog ref=${ref} onClose=${onClose} aria-label=${title}>
    <div class="card-head"><h2>${title}</h2><button class="plain" aria-label="Close" onClick=${() => ref.current.close()}>✕</button></div>
    ${children}
  </dialog>`;
}

// A horizontal bar from zero, to the left for negative values. `most` is the length of the longest bar.
export const Bar = ({ value, most }) => {
  const share = most ? Math.min(1, Math.abs(value) / most) : 0;
  return html`<span class="bar" aria-hidden="true">
    <span class=${value < 0 ? "bar-negative" : "bar-positive"} style=${{ width: `${50 * share}%`, [value < 0 ? "right" : "left"]: "50%" }}></span>
  </span>`;
};

// An estimate with its 95% band, on a scale that begins at `from` and ends at `to`. The numbers stand beside it.
export const Interval = ({ value, low, high, from = 0, to = 1 }) => {
  const place = (one) => `${(100 * (Math.min(to, Math.max(from, one)) - from)) / (to - from)}%`;
  return html`<span class=${from < 0 ? "bar" : "bar whole"} aria-hidden="true">
    <span class="band" style=${{ left: place(low), right: `calc(100% - ${place(high)})` }}></span>
    <span class="point" style=${{ left: place(value) }}></span></span>`;
};

export const Meter = ({ value, most, label }) =>
  html`<progress value=${Math.min(value, most || 1)} max=${most || 1} aria-label=${label}></progress>`;

export const Code = ({ value }) => html`<pre tabindex="0">${typeof value === "string" ? value : JSON.stringify(value, null, 2)}</pre>`;

export function Copy({ text }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
  };
  return html`<button class="small" onClick=${copy}>${copied ? "Copied" : "Copy"}</button>`;
}
