// Runs over whole files: decisions for all customers, and scores of all rows. Both kinds begin, work and end alike.

import { all, get, post } from "./api.js";
import { scannedFiles } from "./files.js";
import { isOwner } from "./session.js";
import { Button, Card, duration, Facts, Field, figure, fileName, Form, go, html, List, Loaded, Meter, Page, Status, Table, useLoad, when } from "./view.js";

export const MOVING = ["pending", "queued", "running"];
const GOES_ON = ["failed", "stopped"];
const ENGINES = { lambda: "functions", processing: "machines of a job" };

export const nameOfRun = (one) => `${when(one.created_at)}${one.dry_run ? ", what if" : ""}: ${figure(one.rows)} rows of ${(one.files || ["all files"]).join(", ")}`;

// `base` is the address of the section in the console, such as ["decisions", "runs"].
export function RunList({ kind, base, describe, empty }) {
  const columns = [
    { name: "Begun", cell: (one) => html`<a href=${`#/${base.join("/")}/${one.id}`}>${when(one.created_at)}</a>` },
    { name: "State", cell: (one) => html`<${Status} value=${one.cancelled_at ? "cancelled" : one.status} />` },
    { name: "Rows", numeric: true, cell: (one) => figure(one.rows) },
    { name: "Files", cell: (one) => (one.files || ["all files"]).join(", ") },
    ...describe,
  ];
  return html`<${Card} title="Runs"><${List} label="Runs" load=${(after) => get(`/${kind}`, { limit: 100, after })} columns=${columns} every=${3000} isMoving=${(one) => MOVING.includes(one.status)} empty=${empty} /><//>`;
}

export function Run({ kind, base, id, title, more, children }) {
  const state = useLoad(() => get(`/${kind}/` + encodeURIComponent(id)), [kind, id], { every: 1500, isMoving: (one) => MOVING.includes(one.status) });
  const act = (verb) => async () => {
    const answer = await post(`/${kind}/${encodeURIComponent(id)}/${verb}`);
    if (answer.id === id) state.reload();
    else go([...base, answer.id]);
  };
  return html`<${Loaded} state=${state}>${(one) => html`
    <${Page} title=${title(one)} lead=${`Begun ${when(one.created_at)}`} actions=${html`
      ${MOVING.includes(one.status) && html`<${Button} kind="danger" task=${act("stop")} confirm="Stop this run? Nothing of it is published.">Stop<//>`}
      ${GOES_ON.includes(one.status) && !one.restarted_as && html`<${Button} kind="primary" task=${act("restart")}>Go on<//>`}
      ${one.status === "succeeded" && one.dry_run === false && !one.cancelled_at && html`<${Button} kind="danger" task=${act("cancel")} confirm="Release all contacts that this run has reserved? Do not send from its files then.">Release the contacts<//>`}
      ${more?.(one)}<a class="button" href=${`#/${base.join("/")}`}>All runs</a>`} />
    ${one.error && html`<div class="problem">${one.error}</div>`}
    ${one.restarted_as && html`<p class="note">It <a href=${`#/${base.join("/")}/${one.restarted_as}`}>went on as another run</a>.</p>`}
    ${one.status === "succeeded" && children(one)}
    ${one.status === "succeeded" && one.output && html`<${Files} kind=${kind} run=${one} />`}
    <${Progress} run=${one} />`}<//>`;
}

function Progress({ run }) {
  const { progress } = run;
  const facts = [
    ["State", html`<${Status} value=${run.cancelled_at ? "cancelled" : run.status} />`],
    ["Rows read", `${figure(progress.rows_read)} of ${figure(run.rows)}`],
    ["Rows written", figure(progress.rows_written)],
    ["Rows a second", figure(progress.rows_per_second)],
    ...(MOVING.includes(run.status) ? [["Time left", duration(progress.seconds_left)]] : []),
    ["Cost so far", progress.cost_usd > 0 && progress.cost_usd < 0.01 ? "less than 0.01 USD" : `${progress.cost_usd.toFixed(2)} USD`],
    ["Where it works", html`${ENGINES[run.engine] || run.engine}<small>${run.engine_reason}</small>`],
  ];
  const refused = Object.entries(progress.refused);
  return html`<div class="grid"><${Card} title="Progress">
      ${MOVING.includes(run.status) && html`<${Meter} value=${progress.rows_read} most=${run.rows} label="Rows read" />`}
      <${Facts} label="Progress" rows=${facts} /><//>
    <${Card} title="Refused rows">${refused.length
      ? html`<ul>${refused.map(([reason, count]) => html`<li>${figure(count)}: ${reason}</li>`)}</ul>
          <${Table} label="Refused rows" rows=${progress.refused_rows} keyOf=${(one) => progress.refused_rows.indexOf(one)}
            columns=${[{ name: "File", cell: (one) => one.file }, { name: "Line", numeric: true, cell: (one) => one.line ?? "–" }, { name: "Column", cell: (one) => one.column || "–" }, { name: "Reason", cell: (one) => one.reason }]} />`
      : html`<p class="quiet">None.</p>`}<//></div>`;
}

function Files({ kind, run }) {
  if (!isOwner()) return html`<${Card} title="Files"><p class="quiet">The output is in the folder ${run.output.folder}. Owners of the space download it here.</p><//>`;
  const columns = [{ name: "File", cell: (one) => html`<a href=${one.url} rel="noreferrer" download>${one.file}</a>` }];
  return html`<${Card} title="Files"><p class="quiet">Anybody with such a link can read the file for 15 minutes.</p>
    <${List} label="Files" load=${(after) => get(`/${kind}/${encodeURIComponent(run.id)}/files`, { limit: 100, after })} columns=${columns} keyOf=${(one) => one.file} cursor=${(rows) => rows.at(-1).file} empty="No file." /><//>`;
}

// ---- A new run: which files, where to, and what `field` and `children` ask for. `body` makes the request of the values.

export function NewRun({ kind, base, title, button, body, optionalOutput, field, children }) {
  const state = useLoad(async () => {
    const [files, connectors] = await Promise.all([scannedFiles(), all("/connectors")]);
    return { files, targets: connectors.filter((one) => one.is_managed) };
  }, []);
  const submit = async (values) => {
    const { connector, file } = state.data.files[Number(values.file)];
    const run = await post(`/${kind}`, { connector_id: connector.id, files: [file], ...(await body(values)) });
    go([...base, run.id]);
  };
  return html`<details class="card"><summary>${title}</summary><${Loaded} state=${state}>${({ files, targets }) =>
    files.length && targets.length
      ? html`<${Form} submit=${submit} button=${button}><div class="row">
          <${Field} label="Customers in"><select name="file">${files.map((one, index) => html`<option value=${index}>${fileName(one)}</option>`)}</select><//>
          <${Field} label="Results to"><select name="output">${optionalOutput && html`<option value="">nowhere: only ask what would be</option>`}${targets.map((one) => html`<option value=${one.id}>${one.name}</option>`)}</select><//>
          ${field}</div>
          ${children}<//>`
      : html`<p class="quiet">No file is scanned yet. <a href="#/data">Upload one</a> with a row for each customer.</p>`}<//></details>`;
}

// A figure per row that people add and remove, such as a capacity.
export function Rows({ label, rows, setRows, blank, children }) {
  const change = (index) => (changes) => setRows(rows.map((row, at) => (at === index ? { ...row, ...changes } : row)));
  return html`<fieldset><legend>${label}</legend>
    ${rows.map((row, index) => html`<div class="row" key=${index}>${children(row, change(index))}<button type="button" onClick=${() => setRows(rows.filter((_, at) => at !== index))}>Remove</button></div>`)}
    <button type="button" class="small" onClick=${() => setRows([...rows, blank])}>Add</button></fieldset>`;
}
