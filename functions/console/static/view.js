// The parts of which every page is made.

import { h } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import htm from "htm";
import { MANY, useNear } from "./rows.js";
import { PAGES, sectionAddress, sectionsOf } from "./sections.js";

export const html = htm.bind(h);
const number = (options) => new Intl.NumberFormat("en", options);
// Whole numbers are shown whole. Others have as many digits as people compare.
const WHOLE = number({ maximumFractionDigits: 0 });
const HUNDREDS = number({ maximumFractionDigits: 1 });
const UNITS = number({ maximumFractionDigits: 2 });
const PARTS = number({ maximumSignificantDigits: 3 });
const rounded = (value) => (Number.isInteger(value) ? WHOLE : Math.abs(value) >= 100 ? HUNDREDS : Math.abs(value) >= 1 ? UNITS : PARTS).format(value);
const moment = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "short" });

export const figure = (value, digits) =>
  value === null || value === undefined || Number.isNaN(value)
    ? "–"
    : digits === undefined
      ? rounded(Number(value))
      : Number(value).toFixed(digits);
export const signed = (value, digits) => `${value > 0 ? "+" : ""}${figure(value, digits)}`;
export const percent = (value, digits = 1) => (value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`);
// What a name of the API means to people.
const WORDS = { roc_auc: "ROC AUC", ks: "KS", gini: "Gini", f1: "F1" };
export const words = (name) => WORDS[name] || String(name).replace(/_/g, " ");
// The end of an id whose name is not known.
export const idEnd = (id) => `…${id.slice(-8)}`;
// A moment is not broken into two lines.
export const duration = (seconds) =>
  seconds === null || seconds === undefined ? "–" : seconds < 90 ? `${figure(Math.round(seconds))} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
export const when = (text) => (text ? moment.format(new Date(text)).replace(/[ \u202f]/g, "\u00a0") : "–");

export const fileName = ({ file, entry, connector }) => `${file} (${figure(entry.rows)} rows, ${connector.name})`;

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
    ${(error.details || []).slice(0, 10).map((one) => html`<div>${one.field.replace(/^(body|query|path)\./, "").replace(/_/g, " ")}: ${one.message}</div>`)}
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

// The head of a page with sections, which names the section that is open.
export const SectionPage = ({ page, current, lead, actions }) => {
  const [, title, sections] = PAGES.find(([key]) => key === page);
  const open = sections.find(([key]) => key === current) || sections[0];
  return html`<${Page} title=${`${title}: ${open[1]}`} lead=${lead} actions=${actions} /><${Tabs} page=${page} current=${open[0]} />`;
};

export const Card = ({ title, actions, children, ...rest }) =>
  html`<section class="card" ...${rest}>
    ${title && html`<div class="card-head"><h2>${title}</h2><div class="actions">${actions}</div></div>`}${children}
  </section>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

export const Status = ({ value, text }) => html`<span class=${`status status-${value}`}>${text || String(value).replace(/_/g, " ")}</span>`;

// On a wide page the menu has these links.
export const Tabs = ({ page, current }) =>
  html`<${Links} label="Sections" current=${current} links=${sectionsOf(page).map(([key, name]) => [key, name, sectionAddress(page, key)])} narrow />`;

export const Links = ({ label, links, current, narrow }) =>
  html`<nav class=${narrow ? "tabs narrow" : "tabs"} aria-label=${label}>
    ${links.map(([key, text, href]) => html`<a href=${href} aria-current=${key === current ? "page" : undefined}>${text}</a>`)}
  </nav>`;

const alignment = (column) => (column.numeric ? "numeric" : column.text ? "text" : "");
// Where there is no room for all columns, each cell stands below its name. The roles keep it a table for screen readers.
const cells = (columns, row) => columns.map((one) => html`<td role="cell" class=${alignment(one)} data-name=${typeof one.name === "string" ? one.name : one.label}>${one.cell(row)}</td>`);
const kind = (columns) => (columns.length > 2 ? "many" : "");

// Columns are {name, cell(row)}, and `numeric` or `text` for sentences, and `label` if the name is no text. `count` is the number of all rows,
// also of those that have not been read, and `onEnd` reads more of them.
export function Table({ label, columns, rows, empty, keyOf = (row) => row.id, count, onEnd }) {
  if (!rows.length) return html`<${Empty}>${empty || "Nothing yet."}<//>`;
  if (rows.length > MANY) return html`<${LongTable} ...${{ label, columns, rows, keyOf, count, onEnd }} />`;
  return html`<div class="table-frame" tabindex="0" role="region" aria-label=${label}>
    <table role="table" class=${kind(columns)}>
      <thead role="rowgroup"><tr role="row">${columns.map((one) => html`<th role="columnheader" scope="col" class=${alignment(one)}>${one.name}</th>`)}</tr></thead>
      <tbody role="rowgroup">${rows.map((row) => html`<tr role="row" key=${keyOf(row)}>${cells(columns, row)}</tr>`)}</tbody>
    </table>
  </div>`;
}

function LongTable({ label, columns, rows, keyOf, count, onEnd }) {
  const frame = useRef();
  const { first, last, above, below, widths } = useNear(frame, rows.length, onEnd);
  const space = (height) => height > 0 && html`<tr class="space" aria-hidden="true"><td colspan=${columns.length} style=${{ height: `${height}px` }}></td></tr>`;
  const width = (index) => (widths ? { width: `${widths[index]}px` } : {});
  return html`<div class="table-frame" tabindex="0" role="region" aria-label=${label} ref=${frame}>
    <table role="table" class=${`${kind(columns)} ${widths ? "long" : ""}`} aria-rowcount=${1 + Math.max(count || 0, rows.length)}>
      <thead role="rowgroup"><tr role="row" aria-rowindex="1">${columns.map((one, index) => html`<th role="columnheader" scope="col" class=${alignment(one)} style=${width(index)}>${one.name}</th>`)}</tr></thead>
      <tbody role="rowgroup">
        ${space(above)}
        ${rows.slice(first, last).map((row, index) => html`<tr role="row" key=${keyOf(row)} aria-rowindex=${first + index + 2}>${cells(columns, row)}</tr>`)}
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

// Facts as two columns: [name, value] each.
export const Facts = ({ label, rows, names = ["Property", "Value"] }) =>
  html`<${Table} label=${label} rows=${rows} keyOf=${([name]) => name} columns=${[{ name: names[0], cell: ([name]) => name }, { name: names[1], cell: ([, value]) => value }]} />`;

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

// A button that works is not disabled, because it would lose the focus. If it is gone afterwards, with its row, what was around it takes the focus.
export function Button({ task, children, kind = "", confirm: question, ...rest }) {
  const [run, running, error] = useTask(task);
  const click = async ({ currentTarget }) => {
    if (running || (question && !window.confirm(question))) return;
    const around = currentTarget.closest("[tabindex], main");
    await run();
    keepFocus(currentTarget, around);
  };
  return html`<button type="button" class=${kind} onClick=${click} aria-busy=${running} ...${rest}>${children}</button>
    <${Problem} error=${error} />`;
}

// The list is read again after the task, so the row stays for a moment.
function keepFocus(button, around) {
  const observer = new MutationObserver(() => {
    if (button.isConnected) return;
    observer.disconnect();
    if (document.activeElement === document.body && around.isConnected) around.focus({ preventScroll: true });
  });
  observer.observe(document.getElementById("main"), { childList: true, subtree: true });
  // Who has gone on to another place stays there.
  document.addEventListener("focusin", () => observer.disconnect(), { once: true });
}

export const Field = ({ label, hint, children }) =>
  html`<label class="field"><span>${label}</span>${children}${hint && html`<small>${hint}</small>`}</label>`;

// A form whose named fields become an object. A field that only the form reads has `defaultValue`: with `value`, what
// somebody has typed would be gone as soon as another part of the form is drawn anew. `submit` receives it. `done` says afterwards what has happened, until a field is changed,
// and `confirm(values)` may ask a question before.
export function Form({ submit, button, children, kind = "primary", done, confirm: question, ...rest }) {
  const [finished, setFinished] = useState(false);
  const [run, running, error] = useTask(async (values, form) => {
    await submit(values, form);
    setFinished(true);
  });
  const onSubmit = async (event) => {
    event.preventDefault();
    if (running) return;
    const form = event.currentTarget;
    const values = Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
    const asked = question?.(values);
    if (asked && !window.confirm(asked)) return;
    setFinished(false);
    await run(values, form);
  };
  return html`<form onSubmit=${onSubmit} onInput=${() => setFinished(false)} ...${rest}>
    ${children}
    <${Problem} error=${error} />
    <div class="actions"><button class=${kind} aria-busy=${running}>${running ? "Working …" : button}</button>
      <span role="status">${finished && done}</span></div>
  </form>`;
}

// The filters of a list of operations, in the address, so that a link shows the same.
export function Filters({ section, query, fields }) {
  const submit = async (values) => go(["operations", section], values);
  return html`<${Form} submit=${submit} button="Filter" kind="" key=${query.toString()}><div class="row">
    ${fields.map(([name, label, options]) => html`<${Field} label=${label}>
      ${Array.isArray(options)
        ? html`<select name=${name} value=${query.get(name) || ""}><option value="">all</option>${options.map((one) => [one].flat()).map(([value, text]) => html`<option value=${value}>${text || value}</option>`)}</select>`
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

// Two bars from zero: what was, and what is. The numbers stand beside them.
export const Pair = ({ before, now, most }) =>
  html`<span class="pair" aria-hidden="true">${[["before", before], ["now", now]].map(([name, value]) => html`<span class=${name} style=${{ width: `${most ? (100 * value) / most : 0}%` }}></span>`)}</span>`;

export const Meter = ({ value, most, label }) =>
  html`<progress value=${Math.min(value, most || 1)} max=${most || 1} aria-label=${label}></progress>`;

// A value of any kind, as people read it: lists with commas, and what is in an object line by line. Numbers are not rounded.
export const Plain = ({ value }) => {
  if (value === null || value === undefined || value === "") return "–";
  if (Array.isArray(value)) return value.every((one) => one === null || typeof one !== "object") ? value.join(", ") || "–" : value.map((one) => html`<div><${Plain} value=${one} /></div>`);
  if (typeof value === "object") return Object.entries(value).filter(([, one]) => one !== null).map(([name, one]) => html`<div>${words(name)}: <${Plain} value=${one} /></div>`);
  return String(value);
};

export const Code = ({ value }) => html`<pre tabindex="0">${typeof value === "string" ? value : JSON.stringify(value, null, 2)}</pre>`;

export function Copy({ text }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    setCopied(true);
  };
  return html`<button class="small" onClick=${copy}>${copied ? "Copied" : "Copy"}</button>`;
}
