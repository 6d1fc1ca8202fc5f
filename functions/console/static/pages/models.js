// Leaderboard, comparison, trainings, and the models in use.

import { useRef, useState } from "preact/hooks";
import { all, del, download, get, numbered, path, put } from "../api.js";
import { MOVING, Rows } from "../runs.js";
import { Scoring, ScoringRun } from "../scoring.js";
import { isOwner } from "../session.js";
import { confusion, CURVES, Lines, Reliability } from "../charts.js";
import { Button, Card, Code, Dialog, duration, Empty, Facts, Field, figure, Form, go, html, idEnd, List, Loaded, Page, percent, Plain, SectionPage, Status, Table, useLoad, when, words } from "../view.js";

// The newest lines of a log that a page shows.
const LOG_LINES = 1000;
// Unless others are picked, so many of the best models are compared.
const COMPARED = 3;
// Of these metrics, a lower value is better.
const LOWER = ["log_loss"];
const METRICS = ["roc_auc", "ks", "gini", "log_loss", "accuracy", "f1", "precision", "recall"];

export default function Models({ parts, query }) {
  const [section = "leaderboard", id] = parts;
  const head = (actions) => html`<${SectionPage} page="models" current=${section} actions=${actions} />`;
  if (section === "trainings" && id) return html`<${Training} id=${id} />`;
  if (section === "trainings") return html`${head(html`<a class="button primary" href="#/home/start">Train a model</a>`)}<${Trainings} />`;
  if (section === "scoring" && id) return html`<${ScoringRun} id=${id} />`;
  if (section === "scoring") return html`${head()}<${Scoring} />`;
  if (section === "aliases") return html`${head()}<${Aliases} />`;
  if (section === "compare") return html`<${Compare} ids=${query.getAll("evaluation")} />`;
  return html`${head()}<${Leaderboard} chosen=${query.get("benchmark")} metric=${query.get("metric") || "roc_auc"} />`;
}

// ---- Leaderboard

async function allBenchmarks() {
  const rows = [];
  for (let page = 1; ; page += 1) {
    const found = await get("/benchmarks", { page, page_size: 100 });
    rows.push(...found.data);
    if (!found.has_more || rows.length >= 1000) return rows;
  }
}

function Leaderboard({ chosen, metric }) {
  const benchmarks = useLoad(allBenchmarks, []);
  return html`<${Loaded} state=${benchmarks}>${(rows) => {
    if (!rows.length) return html`<${Empty}>No benchmark yet. <a href="#/home/start">Train a first model</a>: that makes one.<//>`;
    const benchmark = rows.find((one) => one.id === chosen) || rows[0];
    const ranked = benchmark.metrics.includes(metric) ? metric : benchmark.metrics[0];
    return html`<${Board} key=${`${benchmark.id} ${ranked}`} benchmarks=${rows} benchmark=${benchmark} metric=${ranked} />`;
  }}<//>`;
}

function Board({ benchmarks, benchmark, metric }) {
  const [picked, setPicked] = useState([]);
  const [promoted, setPromoted] = useState(null);
  const select = (changes) => go(["models"], { benchmark: benchmark.id, metric, ...changes });
  const [best, setBest] = useState([]);
  const toggle = (id) => setPicked(picked.includes(id) ? picked.filter((one) => one !== id) : [...picked, id]);
  const load = async (after) => {
    const page = await get("/leaderboards", { benchmarks: benchmark.id, "order_by_metric.benchmark_id": benchmark.id, "order_by_metric.metric_name": metric, limit: 100, after });
    if (!after) setBest(page.data.slice(0, COMPARED).map(evaluationOf).filter(Boolean));
    return page;
  };
  const evaluationOf = (row) => row.evaluations[benchmark.id];
  const shown = METRICS.filter((name) => benchmark.metrics.includes(name));
  const compared = picked.length ? picked : best;
  const columns = [
    { name: "", cell: (row) => evaluationOf(row) && html`<input type="checkbox" aria-label=${`Compare ${row.name}`} checked=${picked.includes(evaluationOf(row))} onChange=${() => toggle(evaluationOf(row))} />` },
    { name: "Rank", numeric: true, cell: (row) => html`${row.rank ?? "–"}${row.rank && row.rank_test === "values" ? html`<small>by value</small>` : null}` },
    { name: "Model", cell: (row) => html`<a href=${`#/models/trainings/${row.training_id}`}>${row.name}</a><small>${row.architecture}, ${when(row.created_at)}</small>${row.warnings.map((text) => html`<div class="note">${text}</div>`)}` },
    ...shown.map((name) => ({ name: words(name), numeric: true, cell: (row) => html`${figure(row.benchmarks[benchmark.id]?.[name], 4)}${name === metric ? html`<${Range} value=${row.intervals[benchmark.id]?.[name]} />` : null}` })),
    { name: "", cell: (row) => evaluationOf(row) && html`<button class="small" onClick=${() => setPromoted(row)}>Promote</button>` },
  ];
  return html`<div class="row">
      <${Field} label="Benchmark"><select value=${benchmark.id} onChange=${(event) => select({ benchmark: event.target.value })}>
        ${benchmarks.map((one) => html`<option value=${one.id}>${one.name}</option>`)}</select><//>
      <${Field} label="Ranked by"><select value=${metric} onChange=${(event) => select({ metric: event.target.value })}>
        ${shown.map((name) => html`<option value=${name}>${words(name)}${LOWER.includes(name) ? " (lower is better)" : ""}</option>`)}</select><//>
    </div>
    <${Card} title=${benchmark.name} actions=${compared.length > 0 && html`<a class="button primary" href=${compareAddress(compared)}>${picked.length ? (compared.length > 1 ? `Compare ${compared.length} models` : "Show its curves") : compared.length > 1 ? `Compare the best ${compared.length}` : "Show the curves"}</a>`}>
      <p class="quiet">${benchmark.description}</p>
      <p class="quiet">Models share a rank where a test on the same rows finds no difference. Below each value is its 95% interval.</p>
      <${List} label="Leaderboard" load=${load} columns=${columns} every=${4000} isMoving=${(row) => !evaluationOf(row)}
        empty="No model is evaluated on this benchmark yet." />
    <//>
    ${promoted && html`<${Promote} row=${promoted} benchmark=${benchmark} benchmarks=${benchmarks} onClose=${() => setPromoted(null)} />`}`;
}

// The 95% interval of a metric.
const Range = ({ value }) => (value ? html`<small>${figure(value.low, 4)} to ${figure(value.high, 4)}</small>` : null);

const Report = ({ address, name, label }) => html`<${Button} task=${() => download(address, `report-${name}.html`)}>${label || "Report"}<//>`;

const compareAddress = (ids) => `#/models/compare?${new URLSearchParams(ids.map((id) => ["evaluation", id]))}`;

const gateOf = (alias) => get(path`/checkpoints/aliases/${alias}/gate`);

const conditionsOf = (gate, nameOf) => [
  ...gate.required_benchmark_ids.map((id) => `a result on ${nameOf(id)}`),
  ...gate.thresholds.map((one) => `${words(one.metric)} ${one.at_least === null ? `at most ${one.at_most}` : `at least ${one.at_least}`}${one.benchmark_id ? ` on ${nameOf(one.benchmark_id)}` : ""}`),
  ...(gate.not_worse ? [`not worse by ${words(gate.not_worse.metric)} than ${gate.not_worse.than || "the model that it names now"}`] : []),
];

// What an alias asks of a model.
const Gate = ({ gate, nameOf }) =>
  gate && conditionsOf(gate, nameOf).length
    ? html`<div class="note">This alias asks for:<ul>${conditionsOf(gate, nameOf).map((text) => html`<li>${text}</li>`)}</ul></div>`
    : html`<p class="quiet">This alias asks for nothing.</p>`;

function Promote({ row, benchmark, benchmarks, onClose }) {
  const [done, setDone] = useState(null);
  const [alias, setAlias] = useState("champion");
  // An alias that is new asks for nothing.
  const gate = useLoad(async () => ((await get("/checkpoints/aliases")).data.some((one) => one.id === alias) ? gateOf(alias) : null), [alias]);
  const nameOf = (id) => benchmarks.find((one) => one.id === id)?.name || idEnd(id);
  const submit = async () => setDone(await put(path`/checkpoints/aliases/${alias}`, { checkpoint_id: row.id }));
  return html`<${Dialog} title=${`Promote ${row.name}`} onClose=${onClose}>
    <p>Offers and predictions name a model by an alias. The alias then means this model. </p>
    ${done
      ? html`<p class="done">${done.id} is now ${row.name}.</p>
          ${done.comparisons.map((one) => html`<p>${words(one.metric)} ${figure(one.value, 4)} beside ${figure(one.against, 4)} of the model before, on ${nameOf(one.benchmark_id)}${one.p_value === null ? "" : ` (p = ${figure(one.p_value, 3)})`}.</p>`)}`
      : html`<${Form} submit=${submit} button="Promote"><${Field} label="Alias" hint=${`such as champion or ${benchmark.name.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`}><input name="alias" required value=${alias} onChange=${(event) => setAlias(event.target.value)} /><//>
          <${Loaded} state=${gate}>${(found) => html`<${Gate} gate=${found} nameOf=${nameOf} />`}<//><//>`}
  <//>`;
}

// ---- Comparison

function Compare({ ids }) {
  const state = useLoad(
    () =>
      Promise.all(
        ids.map(async (id) => {
          const evaluation = await get(path`/evaluations/${id}`);
          const training = evaluation.training_id ? await get(path`/trainings/${evaluation.training_id}`, { include_deleted: true }) : null;
          return { ...evaluation, name: training?.name || evaluation.checkpoint_id };
        }),
      ),
    [ids.join()],
  );
  return html`<${Page} title=${ids.length > 1 ? "Compare models" : "Curves"} actions=${html`<a class="button" href="#/models">Leaderboard</a>`} />
    <${Loaded} state=${state}>${(all) => html`<${Comparison} evaluations=${all.filter((one) => one.result.curve)} />`}<//>`;
}

function Comparison({ evaluations }) {
  if (!evaluations.length) return html`<${Empty}>None of these evaluations has succeeded yet.<//>`;
  const best = (name) => (LOWER.includes(name) ? Math.min : Math.max)(...evaluations.map((one) => one.result.metrics[name] ?? NaN).filter((value) => !Number.isNaN(value)));
  const columns = [
    { name: "Metric", cell: (name) => html`${words(name)}${LOWER.includes(name) ? html`<small>lower is better</small>` : ""}` },
    ...evaluations.map((one) => ({
      label: one.name,
      name: one.training_id ? html`<a href=${`#/models/trainings/${one.training_id}`}>${one.name}</a>` : one.name,
      numeric: true,
      cell: (name) => (one.result.metrics[name] === best(name) ? html`<strong>${figure(one.result.metrics[name], 4)}</strong><${Range} value=${one.result.intervals[name]} />` : html`${figure(one.result.metrics[name], 4)}<${Range} value=${one.result.intervals[name]} />`),
    })),
  ];
  const names = METRICS.filter((name) => evaluations.some((one) => one.result.metrics[name] !== undefined));
  return html`<${Card} title="Metrics"><${Table} label="Metrics" columns=${columns} rows=${names} keyOf=${(name) => name} />
      ${evaluations.map((one) => html`<p class="quiet">${one.name}: ${figure(one.result.rows)} rows, of them ${figure(one.result.positives)} positive${one.result.excluded_training_rows ? `; ${figure(one.result.excluded_training_rows)} rows left out because the model was fitted on them` : ""}. <${Report} address=${path`/evaluations/${one.id}/report`} name=${one.id} label=${`Report of ${one.name}`} /></p>`)}
    <//>
    <div class="grid">${Object.values(CURVES).map(
      (curve) => html`<${Card} key=${curve.name} title=${curve.name}><${Lines} x=${curve.x} y=${curve.y} range=${curve.range} caption=${curve.caption}
        series=${[...evaluations.map((one) => ({ name: one.name, points: curve.points(one.result) })), ...(curve.name === "ROC" ? [{ name: "chance", points: [[0, 0], [1, 1]], dash: [4, 4] }] : [])]} /><//>`,
    )}</div>
    <div class="grid">${evaluations.filter((one) => one.result.calibration).map(
      (one) => html`<${Card} key=${one.id} title=${`Calibration of ${one.name}`}><${Reliability} measured=${one.result.calibration} raw=${one.result.raw_calibration} /><//>`,
    )}</div>
    <div class="grid">${evaluations.map((one) => html`<${Threshold} key=${one.id} evaluation=${one} />`)}</div>`;
}

function Threshold({ evaluation }) {
  const { result, name } = evaluation;
  const points = result.curve.filter((point) => point.threshold !== null);
  const [index, setIndex] = useState(Math.floor(points.length / 4));
  const [gain, setGain] = useState(100);
  const [cost, setCost] = useState(5);
  const point = points[index];
  const cells = confusion(result, point);
  const value = cells.truePositives * gain - (cells.truePositives + cells.falsePositives) * cost;
  const values = points.map((each) => confusion(result, each)).map((each) => each.truePositives * gain - (each.truePositives + each.falsePositives) * cost);
  const best = values.indexOf(Math.max(...values));
  return html`<${Card} title=${`Threshold of ${name}`}>
    <label class="field"><span>Contact everybody with a probability of at least ${figure(point.threshold, 3)}</span>
      <input type="range" min="0" max=${points.length - 1} value=${index} onInput=${(event) => setIndex(Number(event.target.value))} /></label>
    <div class="row">
      <${Field} label="Value of a success"><input type="number" value=${gain} onInput=${(event) => setGain(Number(event.target.value))} /><//>
      <${Field} label="Cost of a contact"><input type="number" value=${cost} onInput=${(event) => setCost(Number(event.target.value))} /><//>
    </div>
    <table aria-label="Confusion matrix"><thead><tr><th></th><th scope="col" class="numeric">contacted</th><th scope="col" class="numeric">left alone</th></tr></thead>
      <tbody><tr><th scope="row">positive</th><td class="numeric">${figure(cells.truePositives)}</td><td class="numeric">${figure(cells.falseNegatives)}</td></tr>
        <tr><th scope="row">negative</th><td class="numeric">${figure(cells.falsePositives)}</td><td class="numeric">${figure(cells.trueNegatives)}</td></tr></tbody></table>
    <p>Precision ${percent(cells.precision)}, recall ${percent(cells.recall)}, ${percent(cells.share)} of all customers contacted.</p>
    <p><strong>${figure(value)}</strong> is what it brings on these ${figure(result.rows)} rows.
      <button class="small" onClick=${() => setIndex(best)}>Go to the best (${figure(values[best])})</button></p>
  <//>`;
}

// ---- Trainings

function Trainings() {
  const columns = [
    { name: "Training", cell: (one) => html`<a href=${`#/models/trainings/${one.id}`}>${one.name}</a><small>${one.architecture}</small>` },
    { name: "State", cell: (one) => html`<${Status} value=${one.status} />` },
    { name: "AUC", numeric: true, cell: (one) => figure(one.checkpoints[0]?.metrics.roc_auc, 4) },
    { name: "Trained for", numeric: true, cell: (one) => duration(one.training_seconds) },
    { name: "Made", cell: (one) => when(one.created_at) },
  ];
  const load = (_, read) => numbered("/trainings", { pageSize: 100 }, read);
  return html`<${List} label="Trainings" load=${load} columns=${columns} isMoving=${(one) => MOVING.includes(one.status)} empty=${html`No training yet. <a href="#/home/start">Train a first model</a>: it takes a file and a few minutes.`} />`;
}

function Training({ id }) {
  const state = useLoad(() => get(path`/trainings/${id}`, { include_deleted: true }), [id], { every: 2000, isMoving: (one) => MOVING.includes(one.status) });
  return html`<${Loaded} state=${state}>${(one) => {
    const names = [...new Set(one.metrics.map((point) => point.name))];
    const series = names.map((name) => ({ name: words(name), points: one.metrics.filter((point) => point.name === name).map((point) => [point.step, point.value]) })).filter((each) => each.points.length > 1);
    const facts = [
      ["State", html`<${Status} value=${one.deleted_at ? "deleted" : one.status} />`],
      ["Architecture", one.architecture],
      ["Files", one.connectors.flatMap((each) => each.files || ["all files"]).join(", ")],
      ["Target", one.connectors.map((each) => each.target).join(", ")],
      ["Started", when(one.started_at)],
      ["Ended", when(one.ended_at)],
      ["Instance", one.instance_type || "–"],
      MOVING.includes(one.status) && ["Progress", one.progress ? `${percent(one.progress.share_done, 0)}, about ${duration(one.progress.seconds_left)} left` : "–"],
      ["Cost so far / expected", one.cost ? html`${money(one.cost, one.cost.so_far)} / ${money(one.cost, one.cost.expected)}<small>${money(one.cost, one.cost.hourly)} an hour on ${one.cost.instance_type}; list prices of ${one.cost.prices_of}, ${one.cost.prices_as_of}</small>` : "–"],
      ["Trained for / billed", `${duration(one.training_seconds)} / ${duration(one.billable_seconds)}`],
    ].filter(Boolean);
    const remove = async () => {
      await del(path`/trainings/${id}`);
      go(["models", "trainings"]);
    };
    return html`<${Page} title=${one.name} actions=${html`<${Report} address=${path`/trainings/${id}/report`} name=${id} />${!one.deleted_at && html`<${Button} kind="danger" task=${remove} confirm=${`Delete the training ${one.name}? A running job is stopped.`}>Delete<//>`}<a class="button" href="#/models/trainings">All trainings</a>`} />
      ${one.error && html`<div class="problem">${one.error}</div>`}
      <div class="grid">
        <${Card} title="Training"><${Facts} label="Facts" rows=${facts} /><//>
        <${Card} title="Notes">${one.notes.length ? html`<ul>${one.notes.map((text) => html`<li>${text}</li>`)}</ul>` : html`<p class="quiet">Nothing to say.</p>`}<//>
      </div>
      <${Card} title="Progress">${series.length ? html`<${Lines} series=${series} x="Round" y="Loss or metric" caption="Metrics that the job has reported on rows that it holds out." />` : html`<p class="quiet">${MOVING.includes(one.status) ? "The job has reported no series yet." : "The job has reported no series: this architecture fits in one step, or its messages were lost."}</p>`}<//>
      <${Card} title="Log"><${Log} key=${id} id=${id} isMoving=${MOVING.includes(one.status)} /><//>
      <${Card} title="Checkpoints"><${Checkpoints} rows=${one.checkpoints} /><//>
      ${one.checkpoints.filter((each) => each.calibration).map(
        (each) => html`<${Card} key=${each.id} title="Calibration"><${Reliability} measured=${each.calibration.measured} raw=${each.calibration.raw} />
          <p>A row gets the positive label from a probability of ${figure(each.threshold, 4)} on${each.threshold_rule && each.threshold_rule !== "0.5" ? `: ${each.threshold_rule}` : ""}.</p><//>`,
      )}
      <${Card} title="Configuration">${Object.keys(one.configuration).length ? html`<${Facts} label="Configuration" rows=${Object.entries(one.configuration).map(([name, value]) => [words(name), html`<${Plain} value=${value} />`])} />` : html`<p class="quiet">Nothing is set, so each setting has its default.</p>`}<//>`;
  }}<//>`;
}

const money = (cost, amount) => (amount === null ? "–" : `${amount.toFixed(2)} ${cost.currency}`);

function Log({ id, isMoving }) {
  const read = useRef({ lines: [], next: "" });
  const load = async () => {
    for (;;) {
      const page = await get(path`/trainings/${id}/logs`, { after: read.current.next, limit: 100 });
      read.current = { lines: [...read.current.lines, ...page.data].slice(-LOG_LINES), next: page.next };
      if (!page.has_more) return read.current.lines;
    }
  };
  const state = useLoad(load, [id, isMoving], { every: 4000, isMoving: () => isMoving });
  return html`<${Loaded} state=${state}>${(lines) =>
      lines.length ? html`<${Code} value=${lines.map((line) => `${line.at.slice(11, 19)}  ${line.message}`).join("\n")} />` : html`<p class="quiet">The job has printed nothing yet.</p>`}<//>
    <p><button class="small" onClick=${state.reload}>Read again</button></p>`;
}

const Checkpoints = ({ rows }) =>
  html`<${Table} label="Checkpoints" empty="None yet." rows=${rows} columns=${[
    { name: "Checkpoint", cell: (one) => html`${one.name}<small>${one.id}</small>` },
    ...["roc_auc", "ks", "log_loss", "f1"].map((name) => ({ name: words(name), numeric: true, cell: (one) => figure(one.metrics[name], 4) })),
    { name: "kB", numeric: true, cell: (one) => figure(Math.round(one.size_bytes / 1000)) },
  ]} />`;

// ---- Aliases

function Aliases() {
  const [gated, setGated] = useState(null);
  const state = useLoad(async () => {
    const [aliases, checkpoints, benchmarks] = await Promise.all([get("/checkpoints/aliases"), all("/checkpoints"), allBenchmarks()]);
    const rows = aliases.data.map(async (alias) => ({ ...alias, gate: await gateOf(alias.id), checkpoint: checkpoints.find((one) => one.id === alias.checkpoint_id) }));
    return { benchmarks, rows: await Promise.all(rows) };
  }, []);
  return html`<${Loaded} state=${state}>${({ rows, benchmarks }) => {
    const nameOf = (id) => benchmarks.find((one) => one.id === id)?.name || idEnd(id);
    const columns = [
      { name: "Alias", cell: (one) => html`<strong>${one.id}</strong>` },
      { name: "Model", cell: (one) => (one.checkpoint ? html`<a href=${`#/models/trainings/${one.checkpoint.training_id}`}>${one.checkpoint.name}</a>` : one.checkpoint_id) },
      { name: "Asks for", cell: (one) => conditionsOf(one.gate, nameOf).join(", ") || "nothing" },
      { name: "Changed", cell: (one) => when(one.updated_at) },
      { name: "", cell: (one) => isOwner() && html`<button class="small" onClick=${() => setGated(one)}>Change its gate</button>` },
    ];
    return html`<${Table} label="Aliases" columns=${columns} rows=${rows} empty="No alias yet. Promote a model on the leaderboard." />
      ${gated && html`<${GateForm} alias=${gated} benchmarks=${benchmarks} onClose=${() => { setGated(null); state.reload(); }} />`}`;
  }}<//>`;
}

function GateForm({ alias, benchmarks, onClose }) {
  const { gate } = alias;
  const [thresholds, setThresholds] = useState(gate.thresholds.map((one) => ({ ...one, bound: one.at_least === null ? "at_most" : "at_least", value: one.at_least ?? one.at_most })));
  const [done, setDone] = useState(false);
  const submit = async (values) => {
    await put(path`/checkpoints/aliases/${alias.id}/gate`, {
      required_benchmark_ids: benchmarks.filter((one) => values[one.id] === "on").map((one) => one.id),
      thresholds: thresholds.map(({ metric, bound, value, benchmark_id }) => ({ metric, [bound]: Number(value), ...(benchmark_id ? { benchmark_id } : {}) })),
      not_worse: values.not_worse ? { ...gate.not_worse, metric: values.not_worse } : null,
    });
    setDone(true);
  };
  return html`<${Dialog} title=${`What ${alias.id} asks of a model`} onClose=${onClose}>${done
    ? html`<p class="done">Saved. It holds for the next promotion.</p>`
    : html`<${Form} submit=${submit} button="Save">
        <fieldset><legend>A result on</legend>${benchmarks.map((one) => html`<label class="check"><input type="checkbox" name=${one.id} defaultChecked=${gate.required_benchmark_ids.includes(one.id)} /> ${one.name}</label>`)}</fieldset>
        <${Rows} label="Bounds" rows=${thresholds} setRows=${setThresholds} blank=${{ metric: "roc_auc", bound: "at_least", value: "" }}>${(row, change) => html`
          <${Field} label="Metric"><select value=${row.metric} onChange=${(event) => change({ metric: event.target.value })}>${METRICS.map((one) => html`<option value=${one}>${words(one)}</option>`)}</select><//>
          <${Field} label="Is"><select value=${row.bound} onChange=${(event) => change({ bound: event.target.value })}><option value="at_least">at least</option><option value="at_most">at most</option></select><//>
          <${Field} label="Value"><input type="number" step="any" required value=${row.value} onInput=${(event) => change({ value: event.target.value })} /><//>`}<//>
        <${Field} label="Not worse than the model before by"><select name="not_worse"><option value="">any metric is fine</option>${METRICS.map((one) => html`<option value=${one} selected=${one === gate.not_worse?.metric}>${words(one)}</option>`)}</select><//><//>`}<//>`;
}
