// Files: upload them, look at them as they are read, and wait for their scan.

import { useRef, useState } from "preact/hooks";
import { all, get, path, post, put, uploadForm } from "./api.js";
import { Field, Form, html, Meter, Problem, Table, useTask } from "./view.js";

const MANAGED = "Uploads";
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Returns the space's connector for uploads, and creates it the first time.
export async function managedConnector() {
  const found = (await all("/connectors")).find((one) => one.is_managed);
  return found || post("/connectors", { name: MANAGED, type: "aws-s3" });
}

export async function upload(connectorId, files, onProgress) {
  const { uploads } = await post(path`/connectors/${connectorId}/uploads`, { files: files.map((file) => file.name) });
  for (const [index, one] of uploads.entries()) {
    const file = files.find(({ name }) => name === one.file);
    await uploadForm(one, file, (share) => onProgress({ file: one.file, share: (index + share) / uploads.length }));
  }
}

export async function catalogEntry(connectorId, file) {
  for (let page = 1; ; page += 1) {
    const found = await get(path`/connectors/${connectorId}/catalog`, { page, page_size: 100 });
    const entry = found.data.find((one) => one.file === file);
    if (entry || !found.has_more) return entry;
  }
}

// Waits until the scan, which the upload starts, has described the file anew.
export async function scannedEntry(connectorId, file, { seconds = 180, after = "" } = {}) {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await pause(1000)) {
    const entry = await catalogEntry(connectorId, file);
    if (entry && entry.status !== "pending" && (entry.scanned_at || "") > after) return entry;
  }
  throw new Error(`The scan of ${file} takes longer than ${seconds} seconds. Look at it later on the Data page.`);
}

// What runs have written, unless somebody chose a folder.
const RESULT = /(^|\/)run=[0-9a-f-]+\//;

// All files of the space that a scan has described, the newest first, without the results of runs.
export async function scannedFiles() {
  const found = await Promise.all(
    (await all("/connectors")).map(async (connector) => {
      const { data } = await get(path`/connectors/${connector.id}/catalog`, { page_size: 1000 });
      return data.filter((entry) => entry.status === "scanned" && !RESULT.test(entry.file)).map((entry) => ({ connector, file: entry.file, entry }));
    }),
  );
  return found.flat().sort((one, other) => (other.entry.scanned_at || "").localeCompare(one.entry.scanned_at || ""));
}

function DropZone({ onFiles, many = true }) {
  const [over, setOver] = useState(false);
  const input = useRef();
  const take = (list) => list.length && onFiles([...list]);
  return html`<div class=${over ? "drop over" : "drop"}
    onDragOver=${(event) => { event.preventDefault(); setOver(true); }}
    onDragLeave=${() => setOver(false)}
    onDrop=${(event) => { event.preventDefault(); setOver(false); take(event.dataTransfer.files); }}>
    <p>Drop ${many ? "files" : "a file"} here: CSV, Parquet or JSON Lines, also compressed by gzip.</p>
    <button onClick=${() => input.current.click()}>Choose ${many ? "files" : "a file"}</button>
    <input ref=${input} type="file" class="hidden" multiple=${many} aria-label="Files to upload" tabindex="-1" onChange=${(event) => take(event.target.files)} />
  </div>`;
}

// Uploads what is dropped and calls `onDone` with the names.
export function Uploader({ connector, onDone, many }) {
  const [progress, setProgress] = useState(null);
  const [run, running, error] = useTask(async (files) => {
    const target = await connector();
    await upload(target.id, files, setProgress);
    await onDone(target, files.map((file) => file.name));
  });
  return html`<${DropZone} onFiles=${run} many=${many} />
    ${running && progress && html`<p role="status">Uploading ${progress.file}</p><${Meter} value=${progress.share} most=${1} label="Upload" />`}
    <${Problem} error=${error} />`;
}

const EXPLAINED = [
  ["delimiter", "Delimiter", "such as ; or tab"],
  ["encoding", "Encoding", "such as utf-8 or cp1252"],
  ["decimal", "Decimal mark", ". or ,"],
  ["thousands", "Thousands mark", ""],
  ["date_format", "Format of dates", "such as %d.%m.%Y"],
  ["skip_lines", "Lines to skip", ""],
];

// The options that say how a file is read, as a form. Empty fields are found out by the reader.
export const ReadOptions = ({ options = {}, submit, button }) =>
  html`<${Form} button=${button} kind="" submit=${(values) => submit(stated(values))}>
    <div class="row">
      ${EXPLAINED.map(
        ([name, label, hint]) => html`<${Field} label=${label} hint=${hint}>
          <input name=${name} defaultValue=${(options || {})[name] === "\t" ? "tab" : (options || {})[name] ?? ""} inputmode=${name === "skip_lines" ? "numeric" : undefined} /><//>`,
      )}
      <${Field} label="First row">
        <select name="header" value=${options?.header === undefined || options?.header === null ? "" : String(options.header)}>
          <option value="">automatic</option><option value="true">names of columns</option><option value="false">already data</option>
        </select><//>
    </div>
  <//>`;

function stated(values) {
  const options = { ...values };
  if (options.delimiter === "tab") options.delimiter = "\t";
  if (options.skip_lines) options.skip_lines = Number(options.skip_lines);
  if (options.header) options.header = options.header === "true";
  return options;
}

export const Warnings = ({ warnings, count }) =>
  warnings?.length > 0 &&
  html`<div class="note"><strong>${count} ${count === 1 ? "warning" : "warnings"}</strong>
    <ul>${warnings.slice(0, 20).map((one) => html`<li>${[one.line && `line ${one.line}`, one.column, one.message].filter(Boolean).join(": ")}</li>`)}</ul>
  </div>`;

export const FirstRows = ({ preview }) =>
  html`<div class="as-read"><${Table} label="First rows as they are read" keyOf=${(row) => preview.rows.indexOf(row)}
    columns=${preview.columns.map((column, index) => ({ label: column.name, name: html`${column.name}<small>${column.type}</small>`, cell: (row) => (row[index] === null ? html`<span class="quiet">null</span>` : String(row[index])) }))}
    rows=${preview.rows} /></div>`;

export const previewOf = (connectorId, file, options) =>
  post(path`/connectors/${connectorId}/preview`, { file, rows: 10, ...(options ? { read_options: options } : {}) });

export const correct = (connectorId, file, options) =>
  put(path`/connectors/${connectorId}/catalog/${file}`, { read_options: Object.keys(options).length ? options : null });
