// The decision for one customer, the offers, and the policy.

import { useState } from "preact/hooks";
import { all, get, path, post, put } from "../api.js";
import { Bar, Button, Card, Empty, Field, figure, Form, go, html, Loaded, Page, percent, Problem, Status, Table, Tabs, useLoad, useTask, when } from "../view.js";

export default function Decisions({ parts }) {
  const [section = "customer", id] = parts;
  const tabs = [
    ["customer", "One customer", "#/decisions"],
    ["offers", "Offers", "#/decisions/offers"],
    ["policy", "Policy", "#/decisions/policy"],
  ];
  const bar = html`<${Page} title="Decisions" /><${Tabs} label="Decisions" tabs=${tabs} current=${section} />`;
  if (section === "insight" && id) return html`<${Stored} id=${id} />`;
  if (section === "offers") return html`${bar}<${Offers} />`;
  if (section === "policy") return html`${bar}<${Policy} />`;
  return html`${bar}<${Customer} />`;
}

// ---- One customer

function Customer() {
  const personas = useLoad(() => all("/personas", {}, 200), []);
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState("");
  const [results, setResults] = useState([]);
  const [decide, deciding, problem] = useTask(async () => {
    let client = text.trim();
    try {
      client = JSON.parse(client);
    } catch {
      if (/^[[{]/.test(client)) throw new Error("The customer is no valid JSON. Check quotes and commas.");
    }
    if (!client) throw new Error("Choose a customer, or paste the customer's fields as JSON.");
    const insight = await post("/insights", { client, wording: "offer", reason_codes: "all" });
    setResults([{ insight, client }, ...results].slice(0, 2));
  });
  const choose = (rows, id) => {
    setChosen(id);
    const found = rows.find((one) => one.id === id);
    setText(found ? JSON.stringify({ customer_id: found.id, name: found.name, birthdate: found.birthdate, ...found.data }, null, 2) : "");
  };
  return html`<${Card} title="Customer">
      <${Loaded} state=${personas}>${(rows) => html`<${Field} label="Known customers" hint="Or paste the fields of any customer below.">
        <select value=${chosen} onChange=${(event) => choose(rows, event.target.value)}>
          <option value="">Choose a customer</option>${rows.map((one) => html`<option value=${one.id}>${one.name}</option>`)}</select><//>`}<//>
      <${Field} label="Fields" hint="Change a value and decide again to see what would change. Each decision is kept as an insight."><textarea value=${text} onInput=${(event) => setText(event.target.value)} spellcheck="false"></textarea><//>
      <button class="primary" onClick=${decide} disabled=${deciding} aria-busy=${deciding}>${results.length ? "Decide again" : "Decide"}</button>
      <${Problem} error=${problem} />
    <//>
    ${results.length === 2 && html`<${Difference} now=${results[0]} before=${results[1]} />`}
    ${results.length > 0 ? html`<${Decision} key=${results[0].insight.id} insight=${results[0].insight} client=${results[0].client} />` : html`<${Empty}>The decision appears here: the ranked offers, why each other one was not chosen, and what moved the score.<//>`}`;
}

function Difference({ now, before }) {
  const score = (result, id) => result.insight.candidates.find((one) => one.action_id === id)?.score;
  const changed = typeof now.client === "object" && typeof before.client === "object"
    ? [...new Set([...Object.keys(now.client), ...Object.keys(before.client)])].filter((key) => JSON.stringify(now.client[key]) !== JSON.stringify(before.client[key]))
    : [];
  const columns = [
    { name: "Offer", cell: (one) => one.name },
    { name: "Before", numeric: true, cell: (one) => figure(score(before, one.action_id), 4) },
    { name: "Now", numeric: true, cell: (one) => figure(score(now, one.action_id), 4) },
  ];
  return html`<${Card} title="What changed">
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
    { name: "Why", cell: (one) => html`${one.removed_by && html`<${Status} value="blocked" /> `}${one.reason}${one.note && html`<div class="note">${one.note}</div>`}` },
  ];
  return html`<${Card} title=${best ? `Offer: ${best.name}` : "No offer"} actions=${html`<a class="button" href=${`#/decisions/insight/${insight.id}`}>Link to this decision</a>`}>
      ${insight.error && html`<p class="note">${insight.error}</p>`}
      ${best && html`<p class="argument">${insight.argument_content || insight.argument}</p>
        <p class="quiet">By ${insight.best_channel || "any channel"}, ${insight.best_time}. Customer ${insight.client_key || "without a key"}${insight.client_key_note ? `: ${insight.client_key_note}` : ""}.</p>
        <${Reaction} insight=${insight} />
        ${client && html`<${Button} task=${() => write(insight, client, best)}>Let a language model write the argument<//>`}`}
    <//>
    <${Card} title="Offers in order"><p class="quiet">${insight.arbitration.formula}</p><${Table} label="Offers in order" columns=${columns} rows=${insight.candidates} keyOf=${(one) => one.action_id} empty="The space has no active offer." /><//>
    ${insight.contributions && html`<${Contributions} insight=${insight} />`}
    <${Lineage} id=${insight.id} />`;
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

function Lineage({ id }) {
  const state = useLoad(() => get(path`/insights/${id}/lineage`), [id]);
  return html`<${Card} title="Where it comes from"><${Loaded} state=${state}>${(one) => html`<ol class="chain">
    <li>Decision <code>${id.slice(-12)}</code></li>
    ${one.checkpoint_id && html`<li>Model <code>${one.checkpoint_id.slice(-12)}</code>${one.scores.map((score) => html`<small>AUC ${figure(score.metrics.roc_auc, 4)} on benchmark …${score.benchmark_id.slice(-6)}, revision ${score.benchmark_revision}</small>`)}</li>`}
    ${one.training_id && html`<li><a href=${`#/models/trainings/${one.training_id}`}>Training …${one.training_id.slice(-12)}</a></li>`}
    ${one.files.map((file) => html`<li><a href=${`#/data/${file.connector_id}/file?${new URLSearchParams({ name: file.file })}`}>${file.file}</a><small>version ${(file.version_id || file.etag).slice(0, 12)}</small></li>`)}
  </ol>`}<//><//>`;
}

function Stored({ id }) {
  const state = useLoad(() => get(path`/insights/${id}`), [id]);
  return html`<${Page} title="Decision" lead=${state.data && when(state.data.created_at)} actions=${html`<a class="button" href="#/decisions">Another customer</a>`} />
    <${Loaded} state=${state}>${(insight) => html`<${Decision} insight=${insight} />`}<//>`;
}

// ---- Offers

function Offers() {
  const [round, setRound] = useState(0);
  const state = useLoad(async () => {
    const [actions, rates, groups] = await Promise.all([all("/actions"), all("/insights/acceptance-rates"), all("/action-groups")]);
    return {
      groups,
      rows: actions.map((one) => ({ ...one, acceptance: rates.find((rate) => rate.action_id === one.id), groupName: groups.find((group) => group.id === one.group)?.name })),
    };
  }, [round]);
  const toggle = (one) => async () => {
    await put(path`/actions/${one.id}`, { status: one.status === "active" ? "inactive" : "active" });
    setRound(round + 1);
  };
  const columns = [
    { name: "Offer", cell: (one) => html`<strong>${one.name}</strong><small>${one.description}</small>` },
    { name: "State", cell: (one) => html`<${Status} value=${one.status} />` },
    { name: "Group", cell: (one) => one.groupName || "–" },
    { name: "Channel", cell: (one) => one.channel || "any" },
    { name: "Priority", cell: (one) => one.priority.replace("_", " ") },
    { name: "Model", cell: (one) => one.model_id || "acceptance rate" },
    { name: "From / to", cell: (one) => `${when(one.start_date)} / ${when(one.end_date)}` },
    { name: "Accepted", cell: (one) => html`<${Rate} rate=${one.acceptance} />` },
    { name: "", cell: (one) => html`<${Button} kind="small" task=${toggle(one)}>${one.status === "active" ? "Stop" : "Activate"}<//>` },
  ];
  return html`<${Loaded} state=${state}>${({ rows, groups }) => html`
    <${Card} title="Offers"><${Table} label="Offers" columns=${columns} rows=${rows} empty="No offer yet. Make one below." /><//>
    <${NewOffer} groups=${groups} onDone=${() => setRound(round + 1)} />`}<//>`;
}

// The accepted share with its 95 % band.
const Rate = ({ rate }) =>
  rate && rate.offers
    ? html`<span title=${`${rate.accepted} accepted, ${rate.rejected} rejected, ${rate.ignored} ignored`}>${percent(rate.rate)} of ${figure(rate.offers)}<small>between ${percent(rate.low, 0)} and ${percent(rate.high, 0)}</small></span>`
    : html`<span class="quiet">no reaction yet</span>`;

function NewOffer({ groups, onDone }) {
  const aliases = useLoad(() => get("/checkpoints/aliases"), []);
  const submit = async ({ group_name, ...values }, form) => {
    let { group } = values;
    if (!group && group_name) group = (await post("/action-groups", { name: group_name, description: group_name })).id;
    await post("/actions", { ...values, group, type: "offer", status: "active" });
    form.reset();
    onDone();
  };
  return html`<details class="card"><summary>New offer</summary><${Form} submit=${submit} button="Make the offer">
    <div class="row">
      <${Field} label="Name"><input name="name" required /><//>
      <${Field} label="Description"><input name="description" required /><//>
      <${Field} label="Channel"><input name="channel" placeholder="email" /><//>
      <${Field} label="Priority"><select name="priority" value="medium">${["very_low", "low", "medium", "high", "very_high"].map((one) => html`<option value=${one}>${one.replace("_", " ")}</option>`)}</select><//>
      <${Field} label="Model"><select name="model_id"><option value="">acceptance rate</option>${(aliases.data?.data || []).map((one) => html`<option value=${one.id}>${one.id}</option>`)}</select><//>
      <${Field} label="Group"><select name="group"><option value="">none</option>${groups.map((one) => html`<option value=${one.id}>${one.name}</option>`)}</select><//>
      ${!groups.length && html`<${Field} label="New group"><input name="group_name" required value="Offers" /><//>`}
    </div><//></details>`;
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
