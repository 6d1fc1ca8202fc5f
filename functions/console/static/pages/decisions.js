// The decision for one customer, and the policy that holds for all.

import { useState } from "preact/hooks";
import { all, get, path, post } from "../api.js";
import { DecisionRun, DecisionRuns } from "../decision_runs.js";
import { limitText, Policy } from "../policy.js";
import { WhatIf } from "../what_if.js";
import { Experiment } from "../experiment.js";
import { Offer, Offers } from "../offers.js";
import { Bar, Button, Card, Empty, Field, figure, Form, go, html, idEnd, Loaded, Page, percent, Problem, SectionPage, Status, Table, useLoad, useTask, when } from "../view.js";

export default function Decisions({ parts, query }) {
  const [section = "customer", id] = parts;
  if (section === "insight" && id) return html`<${Stored} id=${id} />`;
  if (section === "offers" && id) return html`<${Offer} id=${id} />`;
  if (section === "runs" && id === "what-if") return html`<${WhatIf} chosen=${query.get("run")} />`;
  if (section === "runs" && id) return html`<${DecisionRun} id=${id} compared=${query.get("compare") || undefined} />`;
  const View = { offers: Offers, runs: DecisionRuns, experiment: Experiment, policy: Policy }[section];
  return html`<${SectionPage} page="decisions" current=${section} />
    ${View ? html`<${View} />` : html`<${History} key=${id} name=${id} /><${Customer} />`}`;
}

// ---- What a customer got before

function History({ name }) {
  const search = async ({ key }) => go(["decisions", "customer", key]);
  return html`<${Card} title="What a customer got">
    <${Form} submit=${search} button="Look up" kind=""><${Field} label="Customer" hint="the customer's number, or whatever the policy names customers by"><input name="key" required defaultValue=${name} /><//><//>
    ${name && html`<${Events} name=${name} />`}<//>`;
}

function Events({ name }) {
  const actions = useLoad(() => all("/actions"), []);
  const state = useLoad(() => get(path`/clients/${name}`, { limit: 100 }), [name]);
  const columns = [
    { name: "When", cell: (one) => when(one.occurred_at) },
    { name: "What", cell: (one) => (one.kind === "insight" ? html`<a href=${`#/decisions/insight/${one.id}`}>decision: why this offer</a>` : one.kind === "argument" ? html`<a href=${`#/review/argument/${one.id}`}>argument</a>` : one.kind) },
    { name: "Offer", cell: (one) => actions.data?.find((each) => each.id === one.action_id)?.name || (one.action_id ? idEnd(one.action_id) : "–") },
    { name: "Channel", cell: (one) => one.channel || "–" },
    { name: "Reaction or state", cell: (one) => (one.reaction || one.status ? html`<${Status} value=${one.reaction || one.status} />` : "–") },
  ];
  return html`<${Loaded} state=${state}>${(page) => html`<${Table} label="What the customer got" columns=${columns} rows=${page.data} keyOf=${(one) => `${one.kind} ${one.id}`} empty="Nothing is known about this customer." />
    ${page.has_more && html`<p class="quiet">These are the newest 100 events.</p>`}`}<//>`;
}

// ---- One customer

// Reads the fields of a customer: JSON, or two lines of a spreadsheet with the names and the values.
function parsed(text) {
  const given = text.trim();
  const lines = given.split(/\r?\n/).map((line) => line.split("\t"));
  if (lines.length === 2 && lines[0].length > 1) {
    if (lines[0].length !== lines[1].length) throw new Error(`The line of names has ${lines[0].length} cells, and the line of values has ${lines[1].length}.`);
    return Object.fromEntries(lines[0].map((name, index) => [name.trim(), lines[1][index].trim()]));
  }
  try {
    return JSON.parse(given);
  } catch {
    if (/^[[{]/.test(given)) throw new Error("The customer is no valid JSON. Check quotes and commas.");
    return given;
  }
}

const isObject = (client) => client !== null && typeof client === "object" && !Array.isArray(client);

function Customer() {
  const personas = useLoad(() => all("/personas", {}, 200), []);
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState("");
  const [made, setMade] = useState(null);
  const [asked, setAsked] = useState(null);
  const [decide, deciding, problem] = useTask(async () => {
    const client = parsed(text);
    if (!client) throw new Error("Choose a customer, or paste the customer's fields.");
    setAsked(null);
    setMade({ client, insight: await post("/insights", { client, wording: "offer", reason_codes: "all" }) });
  });
  // A what-if is stored nowhere, so it changes neither the customer's history nor an experiment.
  const [ask, asking, unanswered] = useTask(async (client) => {
    setAsked({ client, insight: await post("/insights", { client, wording: "offer", reason_codes: "all", dry_run: true }) });
  });
  const choose = (rows, id) => {
    setChosen(id);
    setMade(null);
    const found = rows.find((one) => one.id === id);
    setText(found ? JSON.stringify({ customer_id: found.id, name: found.name, birthdate: found.birthdate, ...found.data }, null, 2) : "");
  };
  const shown = asked || made;
  return html`<${Card} title="Decide for a customer">
      <${Loaded} state=${personas}>${(rows) => html`<${Field} label="Known customers" hint=${rows.length ? "Or paste the fields of any customer below." : "No customer is stored in this space. Paste the fields of one below."}>
        <select value=${chosen} onChange=${(event) => choose(rows, event.target.value)}>
          <option value="">Choose a customer</option>${rows.map((one) => html`<option value=${one.id}>${one.name}</option>`)}</select><//>`}<//>
      <details open=${!chosen}><summary>Fields of the customer</summary><${Field} label="Fields" hint="Two lines copied from a spreadsheet, the names of the columns and the customer's row; or JSON."><textarea value=${text} onInput=${(event) => setText(event.target.value)} spellcheck="false"></textarea><//></details>
      <button class="primary" onClick=${decide} disabled=${deciding} aria-busy=${deciding}>Decide</button>
      <${Problem} error=${problem} />
    <//>
    ${made && isObject(made.client) && html`<${OtherValues} key=${made.insight.id} client=${made.client} current=${asked?.client} ask=${ask} asking=${asking} error=${unanswered} reset=${() => setAsked(null)} />`}
    ${asked && html`<${Difference} now=${asked} before=${made} />`}
    ${shown ? html`<${Decision} key=${shown.insight.id} insight=${shown.insight} client=${shown.client} />` : html`<${Empty}>The decision appears here: the ranked offers, why each other one was not chosen, and what moved the score.<//>`}`;
}

// The fields of the customer. A changed one is decided on anew.
function OtherValues({ client, current, ask, asking, error, reset }) {
  const [values, setValues] = useState(client);
  const change = (name, text) => {
    const old = client[name];
    const value = typeof old === "number" && text !== "" && !Number.isNaN(Number(text)) ? Number(text) : typeof old === "boolean" ? text === "true" : text;
    const changed = { ...values, [name]: value };
    setValues(changed);
    ask(changed);
  };
  const plain = Object.entries(values).filter(([, value]) => value === null || typeof value !== "object");
  return html`<details class="card" open><summary>What if? Change a value: the decision follows, and nothing is stored</summary>
    <div class="fields">${plain.map(([name, value]) => html`<${Field} key=${name} label=${name}>${typeof client[name] === "boolean"
      ? html`<select value=${String(value)} onChange=${(event) => change(name, event.target.value)}><option>true</option><option>false</option></select>`
      : html`<input value=${value ?? ""} onChange=${(event) => change(name, event.target.value)} />`}<//>`)}</div>
    <${Problem} error=${error} />
    ${asking && html`<p role="status" class="quiet">Deciding …</p>`}
    ${current && html`<button onClick=${() => { setValues(client); reset(); }}>Back to the real customer</button>`}</details>`;
}

function Difference({ now, before }) {
  const score = (result, id) => result.insight.candidates.find((one) => one.action_id === id)?.score;
  const changed = Object.keys(now.client).filter((key) => JSON.stringify(now.client[key]) !== JSON.stringify(before.client[key]));
  const columns = [
    { name: "Offer", cell: (one) => one.name },
    { name: "Before", numeric: true, cell: (one) => figure(score(before, one.action_id), 4) },
    { name: "Now", numeric: true, cell: (one) => figure(score(now, one.action_id), 4) },
  ];
  return html`<${Card} title="What would change">
    <p>${changed.length ? changed.map((key) => `${key}: ${JSON.stringify(before.client[key])} → ${JSON.stringify(now.client[key])}`).join("; ") : "No field."}</p>
    <p>${now.insight.action_id === before.insight.action_id ? "The decision stays the same." : html`<strong>The decision is another one.</strong>`}</p>
    <${Table} label="Scores before and now" columns=${columns} rows=${now.insight.candidates} keyOf=${(one) => one.action_id} /><//>`;
}

// Lets a language model write why the offer fits, and opens its text for review.
async function write(insight, client, offer) {
  const models = await get("/models");
  const written = await post("/arguments", {
    model: (models.data || models)[0]?.id,
    client: typeof client === "object" ? client : { description: client },
    insight_id: insight.id,
    insight_spec: { insight: insight.reason_codes.map((one) => `${one.feature} is ${one.value}`).join(", ") || offer.reason, score: offer.score },
    product: { name: offer.name },
  });
  go(["review", "argument", written.id]);
}

function Decision({ insight, client }) {
  const best = insight.candidates.find((one) => one.action_id === insight.action_id);
  const columns = [
    { name: "Rank", numeric: true, cell: (one) => one.rank ?? "–" },
    { name: "Offer", cell: (one) => html`<strong>${one.name}</strong>` },
    { name: "Propensity", numeric: true, cell: (one) => percent(one.propensity, 2) },
    { name: "Score", numeric: true, cell: (one) => figure(one.score, 4) },
    { name: "Why", text: true, cell: (one) => html`${one.removed_by && html`<${Status} value="blocked" /> `}${one.reason}${one.note && html`<div class="note">${one.note}</div>`}` },
  ];
  return html`<${Card} title=${best ? `${insight.dry_run ? "It would be" : "Offer"}: ${best.name}` : "No offer"} actions=${!insight.dry_run && html`<a class="button" href=${`#/decisions/insight/${insight.id}`}>Link to this decision</a>`}>
      ${insight.error && html`<p class="note">${insight.error}</p>`}
      ${best && html`<p class="argument">${insight.argument_content || insight.argument}</p>
        <p class="quiet">By ${[insight.best_channel || "any channel", insight.best_time].filter(Boolean).join(", ")}. Customer ${insight.client_key || "without a key"}${insight.client_key_note ? `: ${insight.client_key_note}` : ""}.</p>
        ${!insight.dry_run && html`<${Reaction} insight=${insight} />`}
        ${client && !insight.dry_run && html`<${Button} task=${() => write(insight, client, best)}>Let a language model write the argument<//>`}`}
    <//>
    <${Card} title="Offers in order"><p class="quiet">${insight.arbitration.formula}</p><${Table} label="Offers in order" columns=${columns} rows=${insight.candidates} keyOf=${(one) => one.action_id} empty="The space has no active offer." /><//>
    <div class="grid">${insight.contributions && html`<${Contributions} insight=${insight} />`}
      ${(insight.limits || []).length > 0 && html`<${LimitsLeft} limits=${insight.limits} />`}</div>
    ${!insight.dry_run && html`<${Lineage} id=${insight.id} offer=${best?.name} />`}`;
}

function Reaction({ insight }) {
  const [stored, setStored] = useState(insight.reaction?.reaction || null);
  const react = (reaction) => async () => setStored((await post(path`/insights/${insight.id}/reactions`, { reaction })).reaction);
  if (stored) return html`<p class="done">The customer's reaction: ${stored}.</p>`;
  return html`<div class="actions"><span class="quiet">The customer has</span>
    ${["accepted", "rejected", "ignored"].map((one) => html`<${Button} kind="small" task=${react(one)}>${one} it<//>`)}</div>`;
}

function Contributions({ insight }) {
  const { base_value: start, unit, values } = insight.contributions;
  const rows = Object.entries(values).sort((one, other) => Math.abs(other[1]) - Math.abs(one[1])).slice(0, 15);
  const most = Math.max(...rows.map(([, value]) => Math.abs(value)), 1e-12);
  const codes = Object.fromEntries(insight.reason_codes.map((one) => [one.feature, one.value]));
  const columns = [
    { name: "Field", cell: ([name]) => html`${name}${codes[name] !== undefined ? html`<small>${String(codes[name])}</small>` : ""}` },
    { name: "Lowers or raises", cell: ([, value]) => html`<${Bar} value=${value} most=${most} />` },
    { name: "By", numeric: true, cell: ([, value]) => `${value > 0 ? "+" : ""}${figure(value, 3)}` },
  ];
  return html`<${Card} title="What moved the score"><p class="quiet">In ${unit.replace("_", " ")}, beginning at ${figure(start, 3)} for an average customer.</p>
    <${Table} label="Contributions" columns=${columns} rows=${rows} keyOf=${([name]) => name} /><//>`;
}

const LimitsLeft = ({ limits }) =>
  html`<${Card} title="Contacts left"><${Table} label="Contacts left" rows=${limits} keyOf=${(one) => limits.indexOf(one)}
    columns=${[
      { name: "Limit", cell: (one) => limitText(one, {}) },
      { name: "Used", numeric: true, cell: (one) => one.used },
      { name: "Left", numeric: true, cell: (one) => one.left },
    ]} /><//>`;

// From the files to the decision, as a graph: each step leads to the next.
function Lineage({ id, offer }) {
  const state = useLoad(async () => {
    const found = await get(path`/insights/${id}/lineage`);
    const nameOf = async (kind, one) => (one ? (await get(path`/${kind}/${one}`, kind === "trainings" ? { include_deleted: true } : {}).catch(() => null))?.name || idEnd(one) : null);
    const [training, ...benchmarks] = await Promise.all([nameOf("trainings", found.training_id), ...found.scores.map((score) => nameOf("benchmarks", score.benchmark_id))]);
    return { ...found, training, scores: found.scores.map((score, index) => ({ ...score, name: benchmarks[index] })) };
  }, [id]);
  const node = (kind, text, href, note) => html`<div class="node"><small>${kind}</small>${href ? html`<a href=${href}>${text}</a>` : html`<span>${text}</span>`}${note && html`<small>${note}</small>`}</div>`;
  return html`<${Card} title="Where it comes from"><${Loaded} state=${state}>${(one) => {
    const steps = [
      one.files.map((file) => node("File", file.file, `#/data/${file.connector_id}/file?${new URLSearchParams({ name: file.file })}`, `version ${(file.version_id || file.etag).slice(0, 12)}`)),
      one.training_id ? [node("Training", one.training, `#/models/trainings/${one.training_id}`)] : [],
      one.checkpoint_id
        ? [node("Model", idEnd(one.checkpoint_id)), ...one.scores.map((score) => node("Measured on", `${score.name}, revision ${score.benchmark_revision}`, `#/models?benchmark=${score.benchmark_id}`, `ROC AUC ${figure(score.metrics.roc_auc, 4)}`))]
        : [],
      one.action_id ? [node("Offer", offer || idEnd(one.action_id), `#/decisions/offers/${one.action_id}`)] : [],
      [node("Decision", idEnd(id), `#/decisions/insight/${id}`)],
    ].filter((step) => step.length);
    return html`<ol class="lineage">${steps.map((step) => html`<li>${step}</li>`)}</ol>`;
  }}<//><//>`;
}

function Stored({ id }) {
  const state = useLoad(() => get(path`/insights/${id}`), [id]);
  return html`<${Page} title="Decision" lead=${state.data && when(state.data.created_at)} actions=${html`<a class="button" href="#/decisions">Another customer</a>`} />
    <${Loaded} state=${state}>${(insight) => html`<${Decision} insight=${insight} />`}<//>`;
}
