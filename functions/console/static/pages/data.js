// Connectors, their files, and what the scan has found in each.

import { useState } from "preact/hooks";
import { del, get, numbered, path, post } from "../api.js";
import { catalogEntry, correct, FirstRows, managedConnector, previewOf, ReadOptions, Uploader, Warnings } from "../files.js";
import { isOwner } from "../session.js";
import { Button, Card, Code, Field, figure, Form, go, html, Links, List, Loaded, Page, percent, Problem, Status, Table, useLoad, useTask, when } from "../view.js";

export default function Data({ parts, query }) {
  const [id, section = "files"] = parts;
  if (!id) return html`<${Connectors} />`;
  if (section === "file") return html`<${File} connectorId=${id} name=${query.get("name")} />`;
  return html`<${Connector} id=${id} section=${section} />`;
}

function Connectors() {
  const [round, setRound] = useState(0);
  const open = async () => go(["data", (await managedConnector()).id]);
  const columns = [
    { name: "Connector", cell: (one) => html`<a href=${`#/data/${one.id}`}>${one.name}</a>` },
    { name: "Kind", cell: (one) => (one.is_managed ? "uploads" : one.provider) },
    { name: "State", cell: (one) => html`<${Status} value=${one.status} />${one.error && html`<small>${one.error}</small>`}` },
    { name: "Made", cell: (one) => when(one.created_at) },
  ];
  return html`<${Page} title="Data" lead="Where the customer files of this space come from" actions=${html`<${Button} kind="primary" task=${open}>Upload files<//>`} />
    <${List} label="Connectors" load=${(after) => get("/connectors", { limit: 100, after })} inputs=${[round]} columns=${columns} empty="No connector yet. Upload a file, or connect a bucket below." />
    ${isOwner()
      ? html`<${Bucket} onDone=${() => setRound(round + 1)} /><${Database} onDone=${() => setRound(round + 1)} />`
      : html`<p class="quiet">Owners of the space connect buckets and databases.</p>`}`;
}

function Database({ onDone }) {
  const submit = async ({ name, port, ca_certificate, ...values }, form) => {
    await post("/connectors", { name, type: "postgres", postgres: { ...values, port: Number(port), ...(ca_certificate ? { ca_certificate } : {}) } });
    form.reset();
    onDone();
  };
  return html`<details class="card"><summary>Connect a PostgreSQL database</summary>
    <p>Give it a user that may only read. Each table and view of the schema takes the place of a file.</p>
    <${Form} submit=${submit} button="Connect">
      <div class="row">
        <${Field} label="Name"><input name="name" required /><//>
        <${Field} label="Host"><input name="host" required placeholder="db.example.com" /><//>
        <${Field} label="Port"><input name="port" type="number" required value="5432" /><//>
        <${Field} label="Database"><input name="database" required /><//>
        <${Field} label="Schema"><input name="schema_name" required value="public" /><//>
        <${Field} label="User"><input name="user" required autocomplete="off" /><//>
        <${Field} label="Password"><input name="password" type="password" required autocomplete="off" /><//>
      </div>
      <${Field} label="Certificate of its authority" hint="PEM; empty for a public authority"><textarea name="ca_certificate"></textarea><//>
    <//>
  </details>`;
}

function Bucket({ onDone }) {
  const access = useLoad(() => get("/connectors/access/aws-role").catch(() => null), []);
  const submit = async ({ name, bucket, region, prefix = "", role_arn }, form) => {
    await post("/connectors", { name, type: "aws-s3", s3: { bucket, region, prefix, role_arn } });
    form.reset();
    onDone();
  };
  return html`<details class="card"><summary>Connect a bucket of your own</summary>
    <p>Make a role in your account that may read the bucket, with this policy of trust. Only this space can then use it.</p>
    ${access.data && html`<${Code} value=${access.data.trust_policy} />`}
    <${Form} submit=${submit} button="Connect">
      <div class="row">
        <${Field} label="Name"><input name="name" required /><//>
        <${Field} label="Bucket"><input name="bucket" required /><//>
        <${Field} label="Region"><input name="region" required placeholder="eu-central-1" /><//>
        <${Field} label="Prefix"><input name="prefix" /><//>
      </div>
      <${Field} label="ARN of the role"><input name="role_arn" required placeholder="arn:aws:iam::123456789012:role/…" /><//>
    <//>
  </details>`;
}

function Connector({ id, section }) {
  const state = useLoad(() => get(path`/connectors/${id}`), [id]);
  const [round, setRound] = useState(0);
  const again = () => setRound(round + 1);
  return html`<${Loaded} state=${state}>${(connector) => html`
    <${Page} title=${connector.name} lead=${connector.s3 && !connector.is_managed ? `s3://${connector.s3.bucket}/${connector.s3.prefix}` : ""}
      actions=${html`<${Button} task=${async () => { await post(path`/connectors/${id}/scan`, {}); again(); }}>Scan all files again<//><a class="button" href="#/data">All connectors</a>`} />
    <${Links} label="Connector" current=${section} links=${[["files", "Files", `#/data/${id}`], ["drifts", "Changes of columns", `#/data/${id}/drifts`]]} />
    ${section === "drifts" ? html`<${Drifts} id=${id} />` : html`
      ${connector.is_managed && html`<${Card} title="Upload"><${Uploader} many=${true} connector=${async () => connector} onDone=${async () => again()} /><//>`}
      <${Catalog} id=${id} round=${round} managed=${connector.is_managed} />`}`}<//>`;
}

function Catalog({ id, round, managed }) {
  const [removed, setRemoved] = useState(0);
  const columns = [
    { name: "File", cell: (one) => html`<a href=${fileAddress(id, one.file)}>${one.file}</a>${one.error && html`<div class="problem">${one.error}</div>`}` },
    { name: "State", cell: (one) => html`<${Status} value=${one.status} />` },
    { name: "Rows", numeric: true, cell: (one) => figure(one.rows) },
    { name: "Columns", numeric: true, cell: (one) => one.columns.length || "–" },
    { name: "Warnings", numeric: true, cell: (one) => one.warning_count || "" },
    { name: "Scanned", cell: (one) => when(one.scanned_at) },
    {
      name: "",
      cell: (one) =>
        managed &&
        html`<${Button} kind="small danger" confirm=${`Delete ${one.file}?`} task=${async () => { await del(path`/connectors/${id}/files/${one.file}`); setRemoved(removed + 1); }}>Delete<//>`,
    },
  ];
  const load = (_, read) => numbered(path`/connectors/${id}/catalog`, { page_size: 100 }, read);
  return html`<${List} label="Files" load=${load} inputs=${[id, round, removed]} columns=${columns} keyOf=${(one) => one.file} every=${2000} isMoving=${(one) => one.status === "pending"} empty=${managed ? "No file yet. Drop one above." : "No file has been found yet. Check the prefix, and scan again."} />`;
}

const fileAddress = (id, name) => `#/data/${id}/file?${new URLSearchParams({ name })}`;

async function entryOf(connectorId, name) {
  const entry = await catalogEntry(connectorId, name);
  if (!entry) throw new Error(`The connector has no file ${name}.`);
  return entry;
}

function File({ connectorId, name }) {
  const state = useLoad(() => entryOf(connectorId, name), [connectorId, name], { every: 2000, isMoving: (one) => one.status === "pending" });
  const [preview, setPreview] = useState(null);
  const [look, , problem] = useTask(async (options) => setPreview(await previewOf(connectorId, name, options)));
  const train = `#/home/start?${new URLSearchParams({ connector: connectorId, file: name })}`;
  return html`<${Page} title=${name} actions=${html`<a class="button primary" href=${train}>Train on it</a><a class="button" href=${`#/data/${connectorId}`}>All files</a>`} />
    <${Loaded} state=${state}>${(entry) => html`
      ${entry.error && html`<div class="problem">${entry.error}</div>`}
      <div class="tiles">
        <div class="tile"><strong>${figure(entry.rows)}</strong>rows</div>
        <div class="tile"><strong>${entry.columns.length}</strong>columns</div>
        <div class="tile"><strong>${entry.format || "–"}</strong>${entry.encoding || "format"}</div>
        <div class="tile"><strong>${figure(entry.affected_rows)}</strong>rows with a warning</div>
      </div>
      <${Warnings} warnings=${entry.warnings} count=${entry.warning_count} />
      <${Card} title="Columns"><${Table} label="Columns" rows=${entry.columns} keyOf=${(one) => one.name} columns=${profile(entry)} /><//>
      <${Card} title="How it is read" actions=${html`<button onClick=${() => look(entry.read_options)}>Show the first rows</button>`}>
        ${entry.dialect && html`<p class="quiet">Found out: ${named(entry.dialect.delimiter)} between the columns, and ${entry.dialect.quote ? `${named(entry.dialect.quote)} around texts` : "no quotes around texts"} (${percent(entry.dialect.certainty, 0)} sure).</p>`}
        <${Problem} error=${problem} />
        ${preview && html`<${Warnings} warnings=${preview.warnings} count=${preview.warning_count} /><${FirstRows} preview=${preview} />`}
        <${ReadOptions} options=${entry.read_options} button="Read it like this, and scan again" submit=${async (options) => { await correct(connectorId, name, options); state.reload(); }} />
      <//>`}<//>`;
}

const named = (mark) => ({ ",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar", '"': "double quotes", "'": "single quotes" })[mark] || `“${mark}”`;

const profile = (entry) => [
  { name: "Column", cell: (one) => html`<strong>${one.name}</strong><small>${one.type}${one.formats.length ? `, ${one.formats.join(", ")}` : ""}</small>` },
  { name: "Empty", numeric: true, cell: (one) => (entry.rows ? percent(one.nulls / entry.rows) : "–") },
  { name: "Different", numeric: true, cell: (one) => `${one.distinct_is_estimate ? "≈ " : ""}${figure(one.distinct)}` },
  { name: "From", cell: (one) => shown(one.min) },
  { name: "To", cell: (one) => shown(one.max) },
  { name: "Values", cell: (one) => (one.quantiles ? html`<${Distribution} column=${one} />` : html`<${Histogram} values=${one.top_values} />`) },
  { name: "Personal data", cell: (one) => one.personal_data && html`<span class="status status-blocked" title=${one.personal_data.reason}>${one.personal_data.kind.replace(/_/g, " ")}</span>` },
];

const shown = (value) => (typeof value === "number" ? figure(value) : value ?? "–");

// The density between quantiles: between two of them lies a known share of the rows.
const Distribution = ({ column }) => {
  const [from, to] = [Number(column.min), Number(column.max)];
  const known = Object.entries(column.quantiles).map(([share, value]) => [Number(share), value]).sort((one, other) => one[0] - other[0]);
  const ends = [[0, from], ...known, [1, to]];
  const parts = ends.slice(1).map(([share, value], index) => ({ share: share - ends[index][0], width: value - ends[index][1] }));
  const wide = parts.filter((one) => one.width > 0);
  if (!wide.length) return figure(from);
  const most = Math.max(...wide.map((one) => one.share / one.width));
  const text = known.map(([share, value]) => `${percent(share, 0)} are at most ${figure(value)}`).join(", ");
  return html`<div class="histogram" role="img" aria-label=${text} title=${text}>${wide.map((one) => html`<span style=${{ height: `${(100 * one.share) / one.width / most}%`, flexGrow: one.width / (to - from) }}></span>`)}</div>
    <small>half are at most ${figure(column.quantiles["0.5"])}</small>`;
};

const Histogram = ({ values }) => {
  if (!values?.length) return "–";
  const most = Math.max(...values.map((one) => one.rows));
  const text = values.map((one) => `${one.value}: ${figure(one.rows)}`).join(", ");
  return html`<div class="histogram" role="img" aria-label=${text} title=${text}>${values.map((one) => html`<span style=${{ height: `${(100 * one.rows) / most}%` }}></span>`)}</div>
    <small>${values.slice(0, 3).map((one) => one.value).join(", ")}</small>`;
};

const typed = (value) => (typeof value === "number" ? percent(value) : value);
const CHANGES = {
  added: (one) => `is new (${one.after})`,
  removed: (one) => `is gone (it was ${one.before})`,
  nulls: (one) => `is empty in ${typed(one.after)} of the rows, before in ${typed(one.before)}`,
  retyped: (one) => `was ${one.before} and is now ${one.after}`,
  widened: (one) => `was ${one.before} and is now ${one.after}, which is wider`,
};

function Drifts({ id }) {
  const [round, setRound] = useState(0);
  const columns = [
    { name: "File", cell: (one) => one.file },
    { name: "Changes", text: true, cell: (one) => html`<ul>${one.changes.map((change) => html`<li><strong>${change.column}</strong> ${(CHANGES[change.kind] || ((each) => each.kind))(change)}</li>`)}</ul>` },
    { name: "Effect", cell: (one) => (one.is_breaking ? html`<${Status} value="blocked" text=${one.policy === "block" && !one.acknowledged_at ? "trainings wait" : "breaking"} />` : "harmless") },
    { name: "Seen", cell: (one) => when(one.created_at) },
    { name: "", cell: (one) => (one.acknowledged_at ? `accepted ${when(one.acknowledged_at)}` : html`<${Button} kind="small" task=${async () => { await post(path`/connectors/${id}/drifts/${one.id}/acknowledge`); setRound(round + 1); }}>Accept<//>`) },
  ];
  return html`<${List} label="Changes of columns" load=${(after) => get(path`/connectors/${id}/drifts`, { limit: 100, after })} inputs=${[id, round]} columns=${columns} empty="The columns have stayed as they were." />`;
}
