// The parts of which every page is made.

import { h } from "preact";
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import htm from "htm";

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
export const when = (text) => (text ? moment.format(new Date(text)) : "–");

// ---- Addresses: #/page/part?name=value

export function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { parts: path.split("/").filter(Boolean).map(decodeURIComponent), query: new URLSearchParams(query || "") };
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

export const Tabs = ({ label, tabs, current }) =>
  html`<nav class="tabs" aria-label=${label}>
    ${tabs.map(([key, text, href]) => html`<a href=${href} aria-current=${key === current ? "page" : undefined}>${text}</a>`)}
  </nav>`;

// Columns are {name, cell(row), numeric}. A wide table scrolls in its own frame.
export const Table = ({ label, columns, rows, empty, keyOf = (row) => row.id, selected }) =>
  rows.length
    ? html`<div class="table-frame" tabindex="0" role="region" aria-label=${label}>
        <table>
          <thead><tr>${columns.map((one) => html`<th scope="col" class=${one.numeric ? "numeric" : ""}>${one.name}</th>`)}</tr></thead>
          <tbody>
            ${rows.map(
              (row) => html`<tr key=${keyOf(row)} aria-selected=${selected && selected(row) ? "true" : undefined}>
                ${columns.map((one) => html`<td class=${one.numeric ? "numeric" : ""}>${one.cell(row)}</td>`)}
              </tr>`,
            )}
          </tbody>
        </table>
      </div>`
    : html`<${Empty}>${empty || "Nothing yet."}<//>`;

// Reads a page. A search may stop before it finds a row: it goes on from there.
async function nextRows(load, after, count) {
  let page = await load(after, count);
  while (!page.data.length && page.has_more && page.next_after) page = await load(page.next_after, count);
  return page;
}

// A list that pages by the API's cursors.
export function List({ load, inputs = [], label, columns, empty, every, isMoving, keyOf, cursor = (rows) => rows.at(-1).id }) {
  const first = useLoad(() => nextRows(load, undefined, 0), inputs, { every, isMoving: (page) => Boolean(isMoving && page.data.some(isMoving)) });
  const [more, setMore] = useState({ rows: [], has_more: null });
  useEffect(() => setMore({ rows: [], has_more: null }), inputs);
  const [next, loading, error] = useTask(async (rows, after) => {
    const page = await nextRows(load, after || cursor(rows), rows.length);
    setMore((old) => ({ ...page, rows: [...old.rows, ...page.data] }));
  });
  return html`<${Loaded} state=${first}>${(page) => {
    const rows = [...page.data, ...more.rows];
    const last = more.has_more === null ? page : more;
    return html`<${Table} label=${label} columns=${columns} rows=${rows} empty=${empty} keyOf=${keyOf} />
      <${Problem} error=${error} />
      ${last.has_more && html`<p><button onClick=${() => next(rows, last.next_after)} disabled=${loading}>Show more</button></p>`}`;
  }}<//>`;
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
