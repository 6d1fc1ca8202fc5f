// The decision for one customer, and the policy that holds for all.

import { useState } from "preact/hooks";
import { all, get, path, post, put } from "../api.js";
import { DecisionRun, DecisionRuns } from "../decision_runs.js";
import { Experiment } from "../experiment.js";
import { Offer, Offers } from "../offers.js";
import { Bar, Button, Card, Empty, Field, figure, Form, go, html, Loaded, Page, percent, Problem, Status, Table, Tabs, useLoad, useTask, when } from "../view.js";

export default function Decisions({ parts, query }) {
  const [section = "customer", id] = parts;
  if (section === "insight" && id) return html`<${Stored} id=${id} />`;
  if (section === "offers" && id) return html`<${Offer} id=${id} />`;
  if (section === "runs" && id) return html`<${DecisionRun} id=${id} compared=${query.get("compare") || undefined} />`;
  const View = { offers: Offers, runs: DecisionRuns, experiment: Experiment, policy: Policy }[section];
  return html`<${Page} title="Decisions" /><${Tabs} page="decisions" current=${section} />
    ${View ? html`<${View} />` : html`<${History} key=${id} name=${id} /><${Customer} />`}`;
}

// ---- What a customer got before

function History({ name }) {
  const search = async ({ key }) => go(["decisions", "customer", key]);
  return html`<${Card} title="What a customer got">
    <${Form} submit=${search} button="Look up" kind=""><${Field} label="Customer" hint="the customer's number, or whatever the policy names customers by"><input name="key" required value=${name} /><//><//>
    ${name && html`<${Events} name=${name} />`}<//>`;
}

function Events({ name }) {
  const actions = useLoad(() => all("/actions"), []);
  const state = useLoad(() => get(path`/clients/${name}`, { limit: 100 }), [name]);
  const columns = [
    { name: "When", cell: (one) => when(one.occurred_at) },
    { name: "What", cell: (one) => (one.kind === "insight" ? html`<a href=${`#/decisions/insight/${one.id}`}>decision: why this offer</a>` : one.kind === "argument" ? html`<a href=${`#/review/argument/${one.id}`}>argument</a>` : one.kind) },
    { name: "Offer", cell: (one) => actions.data?.find((each) => each.id === one.action_id)?.name || (one.action_id ? `…${one.action_id.slice(-8)}` : "–") },
    { name: "Channel", cell: (one) => one.channel || "–" },
    { name: "Reaction or state", cell: (one) => (one.reaction || one.status ? html`<${Status} value=${one.reaction || one.status} />` : "–") },
  ];
  return html`<${Loaded} state=${state}>${(page) => html`<${Table} label="What the customer got" columns=${columns} rows=${page.data} keyOf=${(one) => `${one.kind} ${one.id}`} empty="Nothing is known about this customer." />
    ${page.has_more && html`<p class="quiet">These are the newest 100 events.</p>`}`}<//>`;
}

// ---- One customer

function parsed(text) {
  const given = text.trim();
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
    if (!client) throw new Error("Choose a customer, or paste the customer's fields as JSON.");
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
      <${Loaded} state=${personas}>${(rows) => html`<${Field} label="Known customers" hint="Or paste the fields of any customer below.">
        <select value=${chosen} onChange=${(event) => choose(rows, event.target.value)}>
          <option value="">Choose a customer</option>${rows.map((one) => html`<option value=${one.id}>${one.name}</option>`)}</select><//>`}<//>
      <details open=${!chosen}><summary>Fields as JSON</summary><${Field} label="Fields"><textarea value=${text} onInput=${(event) => setText(event.target.value)} spellcheck="false"></textarea><//></details>
      <button class="primary" onClick=${decide} disabled=${deciding} aria-busy=${deciding}>Decide</button>
      <${Problem} error=${problem} />
    <//>
    ${made && isObject(made.client) && html`<${WhatIf} key=${made.insight.id} client=${made.client} current=${asked?.client} ask=${ask} asking=${asking} error=${unanswered} reset=${() => setAsked(null)} />`}
    ${asked && html`<${Difference} now=${asked} before=${made} />`}
    ${shown ? html`<${Decision} key=${shown.insight.id} insight=${shown.insight} client=${shown.client} />` : html`<${Empty}>The decision appears here: the ranked offers, why each other one was not chosen, and what moved the score.<//>`}`;
}

// The fields of the customer. A changed one is decided on anew.
function WhatIf({ client, current, ask, asking, error, reset }) {
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
      { name: "Limit", cell: (one) => `${one.contacts} in ${one.days} ${one.period === "calendar" ? "calendar days" : "days"}${one.channel ? ` on ${one.channel}` : ""}${one.action_id ? ", for one offer" : ""}${one.group ? ", for one group" : ""}` },
      { name: "Used", numeric: true, cell: (one) => one.used },
      { name: "Left", numeric: true, cell: (one) => one.left },
    ]} /><//>`;

// From the files to the decision, as a graph: each step leads to the next.
function Lineage({ id, offer }) {
  const state = useLoad(() => get(path`/insights/${id}/lineage`), [id]);
  const node = (kind, text, href, note) => html`<div class="node"><small>${kind}</small>${href ? html`<a href=${href}>${text}</a>` : html`<span>${text}</span>`}${note && html`<small>${note}</small>`}</div>`;
  const end = (one) => `…${one.slice(-12)}`;
  return html`<${Card} title="Where it comes from"><${Loaded} state=${state}>${(one) => {
    const steps = [
      one.files.map((file) => node("File", file.file, `#/data/${file.connector_id}/file?${new URLSearchParams({ name: file.file })}`, `version ${(file.version_id || file.etag).slice(0, 12)}`)),
      one.training_id ? [node("Training", end(one.training_id), `#/models/trainings/${one.training_id}`)] : [],
      one.checkpoint_id
        ? [node("Model", end(one.checkpoint_id)), ...one.scores.map((score) => node("Measured on", `benchmark ${end(score.benchmark_id)}, revision ${score.benchmark_revision}`, `#/models?benchmark=${score.benchmark_id}`, `AUC ${figure(score.metrics.roc_auc, 4)}`))]
        : [],
      one.action_id ? [node("Offer", offer || end(one.action_id), `#/decisions/offers/${one.action_id}`)] : [],
      [node("Decision", end(id), `#/decisions/insight/${id}`)],
    ].filter((step) => step.length);
    return html`<ol class="lineage">${steps.map((step) => html`<li>${step}</li>`)}</ol>`;
  }}<//><//>`;
}

function Stored({ id }) {
  const state = useLoad(() => get(path`/insights/${id}`), [id]);
  return html`<${Page} title="Decision" lead=${state.data && when(state.data.created_at)} actions=${html`<a class="button" href="#/decisions">Another customer</a>`} />
    <${Loaded} state=${state}>${(insight) => html`<${Decision} insight=${insight} />`}<//>`;
}

// ---- Policy

function Policy() {
  const state = useLoad(() => get("/insights/policy"), []);
  const [saved, setSaved] = useState(false);
  const submit = async (values) => {
    const limits = JSON.parse(values.contact_limits);
    await put("/insights/policy", {
      suppression_days: { accepted: Number(values.accepted), rejected: Number(values.rejected), ignored: Number(values.ignored) },
      client_key: { fields: values.fields.split(",").map((one) => one.trim()).filter(Boolean) },
      require_client_key: values.require_client_key === "on",
      time_zone: values.time_zone,
      contact_limits: limits,
    });
    setSaved(true);
    state.reload();
  };
  return html`<${Loaded} state=${state}>${(policy) => html`<${Card} title="What holds for each customer">
    ${saved && html`<p class="done">Saved. The next decision follows it.</p>`}
    <${Form} submit=${submit} button="Save">
      <div class="row">
        ${["accepted", "rejected", "ignored"].map((one) => html`<${Field} label=${`Days of rest after ${one}`}><input name=${one} type="number" min="0" required value=${policy.suppression_days[one]} /><//>`)}
        <${Field} label="Time zone"><input name="time_zone" required value=${policy.time_zone} /><//>
      </div>
      <${Field} label="Fields that name a customer, in this order"><input name="fields" required value=${policy.client_key.fields.join(", ")} /><//>
      <label class="check"><input type="checkbox" name="require_client_key" checked=${policy.require_client_key} /> Refuse a customer whom no field names</label>
      <${Field} label="Limits of contacts" hint='such as [{"channel": "sms", "contacts": 1, "days": 7}]'><textarea name="contact_limits">${JSON.stringify(policy.contact_limits.map((one) => Object.fromEntries(Object.entries(one).filter(([, value]) => value !== null))), null, 2)}</textarea><//>
    <//>
    ${policy.updated_at && html`<p class="quiet">Changed ${when(policy.updated_at)}.</p>`}<//>`}<//>`;
}
