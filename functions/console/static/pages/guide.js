// From a file to a leaderboard, step by step.

import { useEffect, useState } from "preact/hooks";
import { all, get, path, post } from "../api.js";
import { correct, FirstRows, managedConnector, previewOf, ReadOptions, scannedEntry, scannedFiles, Uploader, Warnings } from "../files.js";
import { MOVING } from "../runs.js";
import { Button, Field, figure, fileName, Form, go, html, Loaded, Page, Problem, Status, useLoad, useTask, words } from "../view.js";

const METRICS = ["roc_auc", "ks", "log_loss", "f1"];
// What a first comparison trains.
const FIRST = ["lightgbm", "xgboost"];

const Step = ({ number, title, done, children }) =>
  html`<li data-step=${number} data-state=${done ? "done" : "open"}><h2>${title}</h2>${children}</li>`;

// `given` is {connector, file} of the address, of a file that is here already.
export function Guide({ given }) {
  const [file, setFile] = useState(null);
  const [trainings, setTrainings] = useState(null);
  return html`<${Page} title="Train a model" lead="A file with one row for each customer, and a column that says what happened." />
    <ol class="steps card">
      <${Step} number="1" title="Choose a file" done=${file}>
        ${file ? html`<p>${file.name}: ${figure(file.entry.rows)} rows, ${file.entry.columns.length} columns</p>` : html`<${FileStep} given=${given} onReady=${setFile} />`}
      <//>
      <${Step} number="2" title="Choose what to predict" done=${trainings}>
        ${file && !trainings && html`<${TargetStep} file=${file} onStarted=${setTrainings} />`}
        ${!file && html`<p class="quiet">The columns appear here with the file.</p>`}
      <//>
      <${Step} number="3" title="Train and compare" done=${false}>
        ${trainings ? html`<${Progress} started=${trainings} />` : html`<p class="quiet">The models are trained, and compared on rows that they have not seen.</p>`}
      <//>
    </ol>`;
}

function FileStep({ given, onReady }) {
  const [uploaded, setUploaded] = useState(null);
  const here = useLoad(scannedFiles, []);
  const use = ({ connector, file, entry }) => onReady({ connector, name: file, entry });
  useEffect(() => {
    const found = given?.file && here.data?.find((one) => one.connector.id === given.connector && one.file === given.file);
    if (found) use(found);
  }, [here.data]);
  if (uploaded) return html`<${Uploaded} ...${uploaded} onReady=${onReady} again=${() => setUploaded(null)} />`;
  return html`<${Loaded} state=${here}>${(files) => files.length > 0 && html`<${Form} submit=${({ file }) => use(files[Number(file)])} button="Use this file" >
      <${Field} label="A file that is here already"><select name="file">${files.map((one, index) => html`<option value=${index}>${fileName(one)}</option>`)}</select><//><//>
      <p class="quiet">Or another one:</p>`}<//>
    <${Uploader} connector=${managedConnector} many=${false} onDone=${async (connector, [name]) => setUploaded({ connector, name })} />`;
}

// The first rows as they are read, and what to say if they are read wrong.
function Uploaded({ connector, name, onReady, again }) {
  const [preview, setPreview] = useState(null);
  const [options, setOptions] = useState({});
  const [look, , problem] = useTask(async (stated) => {
    setOptions(stated);
    setPreview(await previewOf(connector.id, name, stated));
  });
  useEffect(() => void look({}), []);
  const accept = async () => {
    let entry = await scannedEntry(connector.id, name);
    if (Object.keys(options).length) {
      await correct(connector.id, name, options);
      entry = await scannedEntry(connector.id, name, { after: entry.scanned_at || "" });
    }
    if (entry.status === "error") throw new Error(entry.error);
    onReady({ connector, name, entry });
  };
  return html`<p>${name} is uploaded. These are its first rows as they are read.</p>
    <${Problem} error=${problem} />
    ${preview && html`<${Warnings} warnings=${preview.warnings} count=${preview.warning_count} /><${FirstRows} preview=${preview} />`}
    <details open=${Boolean(problem)}><summary>They are not read right</summary>
      <${ReadOptions} options=${options} button="Read again" submit=${look} />
    </details>
    <p><${Button} kind="primary" task=${accept} disabled=${!preview}>These rows are right<//>
      <button onClick=${again}>Choose another file</button></p>`;
}

// The last column with two values is the best guess, because most files end with what happened.
const guess = (columns) => columns.filter((one) => one.distinct === 2).at(-1)?.name ?? columns.at(-1)?.name;

function TargetStep({ file, onStarted }) {
  const columns = file.entry.columns;
  const [target, setTarget] = useState(guess(columns));
  const column = columns.find((one) => one.name === target);
  const architectures = useLoad(() => get("/architectures"), []);
  const [chosen, setChosen] = useState(FIRST);
  const toggle = (name) => setChosen(chosen.includes(name) ? chosen.filter((one) => one !== name) : [...chosen, name]);
  const start = async ({ name, positive }) => {
    if (!chosen.length) throw new Error("Choose at least one kind of model.");
    const source = { connector_id: file.connector.id, files: [file.name], target, ...(positive ? { positive_label: positive } : {}) };
    const models = await all("/data-models");
    const model = models[0] || (await post("/data-models", { name: "Customers", description: "One row for each customer" }));
    const benchmark = await post("/benchmarks", {
      name,
      description: `Rows of ${file.name} that the models have not seen`,
      task: "binary_classification",
      metrics: METRICS,
      connectors: [source],
    });
    const training = (architecture) =>
      post("/trainings", {
        name: `${name}, ${architecture}`,
        architecture,
        configuration: {},
        connectors: [source],
        data_model_id: model.id,
        benchmark_ids: [benchmark.id],
        gpu_count: 0,
      });
    const trainings = [];
    for (const architecture of chosen) trainings.push(await training(architecture));
    onStarted({ benchmark, trainings });
  };
  const values = column?.top_values || [];
  return html`<${Form} submit=${start} button="Train">
    <div class="row">
      <${Field} label="Column to predict" hint=${column && `${figure(column.distinct)} different values`}>
        <select value=${target} onChange=${(event) => setTarget(event.target.value)}>
          ${columns.map((one) => html`<option value=${one.name}>${one.name}</option>`)}
        </select><//>
      <${Field} label="Value that counts as success">
        <select name="positive" key=${target}><option value="">automatic</option>${values.map((one) => html`<option value=${one.value}>${one.value}</option>`)}</select><//>
      <${Field} label="Name"><input name="name" required maxlength="100" defaultValue=${file.name.replace(/\.[^/]*$/, "")} /><//>
    </div>
    <${Loaded} state=${architectures}>${({ data }) => html`<fieldset><legend>Kinds of models</legend><div class="actions">${data.map((one) => html`<label class="check" title=${one.unavailable_because ?? one.title}>
      <input type="checkbox" checked=${chosen.includes(one.name)} disabled=${!one.is_available} onChange=${() => toggle(one.name)} /> ${one.name}</label>`)}</div></fieldset>`}<//>
    ${column && column.distinct !== 2 && html`<p class="note">A model of this kind needs a column with two values. ${column.name} has ${figure(column.distinct)}.</p>`}
  <//>`;
}

function Progress({ started }) {
  const state = useLoad(
    async () => {
      const trainings = await Promise.all(started.trainings.map((one) => get(path`/trainings/${one.id}`)));
      const board = await get("/leaderboards", { benchmarks: started.benchmark.id, "order_by_metric.benchmark_id": started.benchmark.id, "order_by_metric.metric_name": "roc_auc" });
      return { trainings, ranked: board.data.filter((row) => row.benchmarks[started.benchmark.id]) };
    },
    [],
    { every: 2000, isMoving: ({ trainings, ranked }) => trainings.some((one) => MOVING.includes(one.status)) || ranked.length < trainings.filter((one) => one.status === "succeeded").length },
  );
  return html`<${Loaded} state=${state}>${({ trainings, ranked }) => html`
    ${trainings.map((one) => html`<p role="status"><${Status} value=${one.status} /> <a href=${`#/models/trainings/${one.id}`}>${one.name}</a>
      ${one.metrics.length > 0 && html`<span class="quiet"> ${words(one.metrics.at(-1).name)} ${figure(one.metrics.at(-1).value)} at round ${one.metrics.at(-1).step}</span>`}
      ${one.error && html`<div class="problem">${one.error}</div>`}</p>`)}
    ${ranked.length > 0
      ? html`<p class="done">${ranked.length} of ${trainings.length} models are evaluated.</p>
          <button class="primary" onClick=${() => go(["models"], { benchmark: started.benchmark.id })}>Open the leaderboard</button>`
      : html`<p class="quiet">The models are evaluated when they are trained. This takes a few minutes; you can leave the page.</p>`}`}<//>`;
}
