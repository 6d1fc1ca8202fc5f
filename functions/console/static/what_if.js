// What if? A run over the same customers with other weights, rules, values or offers. It stores nothing but its summary.

import { useState } from "preact/hooks";
import { get, post } from "./api.js";
import { Capacities, limitsFrom, placesOf } from "./decision_runs.js";
import { scannedFiles } from "./files.js";
import { PRIORITIES } from "./offers.js";
import { PolicyFields, policyOf, usePolicy, valuesOf } from "./policy.js";
import { nameOfRun, Rows } from "./runs.js";
import { Card, Empty, Field, fileName, Form, go, html, Loaded, Page, useLoad, words } from "./view.js";

const BASE = ["decisions", "runs"];
const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

export function WhatIf({ chosen }) {
  const policy = usePolicy();
  const state = useLoad(async () => {
    const [runs, files, aliases] = await Promise.all([get("/decision-runs", { limit: 100 }), scannedFiles(), get("/checkpoints/aliases")]);
    return { runs: runs.data.filter((one) => one.status === "succeeded"), files, aliases: aliases.data.map((one) => one.id) };
  }, []);
  return html`<${Page} title="What if?" lead="Decides for the same customers with other settings. Nothing is stored but the summary, and no contact is reserved." actions=${html`<a class="button" href="#/decisions/runs">All runs</a>`} />
    <${Loaded} state=${policy}>${(rules) => html`<${Loaded} state=${state}>${(found) =>
      found.files.length ? html`<${Ask} key=${chosen} ...${rules} ...${found} chosen=${chosen} />` : html`<${Empty}>No file is scanned yet. <a href="#/data">Upload one</a> with a row for each customer.<//>`}<//>`}<//>`;
}

function Ask({ policy, actions, groups, runs, files, aliases, chosen }) {
  const [other, setOther] = useState(runs.find((one) => one.id === chosen) || runs[0] || null);
  const [limits, setLimits] = useState(policy.contact_limits);
  const [offers, setOffers] = useState([]);
  const [capacities, setCapacities] = useState(other?.limits.map(asRow) || []);
  const known = actions.filter((one) => one.status !== "archived");
  const active = known.filter((one) => one.status === "active");
  const choose = (id) => {
    const run = runs.find((one) => one.id === id) || null;
    setOther(run);
    setCapacities(run?.limits.map(asRow) || []);
  };
  const submit = async (values) => {
    const before = policyOf(valuesOf(policy), policy.contact_limits);
    const changed = Object.fromEntries(Object.entries(policyOf(values, limits)).filter(([name, value]) => !same(value, before[name])));
    const overrides = offers.map((row) => overrideOf(row, policy.currency));
    if (new Set(overrides.map((one) => one.action_id)).size < overrides.length) throw new Error("An offer stands in two rows. Put its changes into one.");
    // Offers that are no active ones take part only if the run names them.
    const tried = overrides.map((one) => one.action_id).filter((id) => !active.some((one) => one.id === id));
    const source = other ? { connector_id: other.connector_id, ...(other.files ? { files: other.files } : {}) } : { connector_id: files[Number(values.file)].connector.id, files: [files[Number(values.file)].file] };
    const run = await post("/decision-runs", {
      ...source,
      dry_run: true,
      limits: limitsFrom(capacities),
      ...(tried.length ? { actions: [...active.map((one) => one.id), ...tried] } : {}),
      overrides: { ...(Object.keys(changed).length ? { policy: changed } : {}), actions: overrides.filter((one) => Object.keys(one).length > 1) },
    });
    go([...BASE, run.id], { compare: other?.id });
  };
  return html`<${Form} submit=${submit} button="Ask what would be">
    <${Card} title="Customers"><div class="row">
      <${Field} label="Beside the run"><select value=${other?.id || ""} onChange=${({ target }) => choose(target.value)}><option value="">no run: only a file</option>${runs.map((one) => html`<option value=${one.id}>${nameOfRun(one)}</option>`)}</select><//>
      ${other ? html`<p class="field"><span><strong>Its customers</strong></span>${(other.files || ["all files"]).join(", ")}</p>` : html`<${Field} label="Customers in"><select name="file">${files.map((one, index) => html`<option value=${index}>${fileName(one)}</option>`)}</select><//>`}</div>
      <${Capacities} places=${placesOf(active)} rows=${capacities} setRows=${setCapacities} /><//>
    <${Card} title="Rules and weights"><p class="quiet">They begin as the policy is now. Change what should be otherwise.</p>
      <${PolicyFields} policy=${policy} actions=${actions} groups=${groups} limits=${limits} setLimits=${setLimits} /><//>
    <${Card} title="Offers"><p class="quiet">Add each offer that should be otherwise. What you leave empty stays as it is. A draft takes part if its state is active.</p>
      ${known.length ? html`<${Rows} label="Offers that are otherwise" rows=${offers} setRows=${setOffers} blank=${{ action_id: (known.find((one) => !offers.some((row) => row.action_id === one.id)) || known[0]).id }}>${(row, change) => html`<${OfferChange} row=${row} change=${change} known=${known} aliases=${aliases} currency=${policy.currency} />`}<//>` : html`<${Empty}>No offer yet. <a href="#/decisions/offers">Make one</a>.<//>`}<//><//>`;
}

const asRow = ({ action_id, channel, capacity, minimum }) => ({ place: action_id ? { action_id } : { channel }, capacity: capacity ?? "", minimum: minimum || "" });

function OfferChange({ row, change, known, aliases, currency }) {
  const offer = known.find((one) => one.id === row.action_id);
  const set = (name) => ({ target }) => change({ [name]: target.value });
  const choice = (name, label, options, now) => html`<${Field} label=${label}><select value=${row[name] || ""} onChange=${set(name)}><option value="">as it is${now ? `: ${words(now)}` : ""}</option>${options.map((one) => html`<option value=${one}>${words(one)}</option>`)}</select><//>`;
  return html`<${Field} label="Offer"><select value=${row.action_id} onChange=${set("action_id")}>${known.map((one) => html`<option value=${one.id}>${one.name}</option>`)}</select><//>
    ${choice("status", "State", ["active", "inactive"], offer.status)}
    ${choice("priority", "Priority", PRIORITIES, offer.priority)}
    <${Field} label=${`Worth, if accepted${currency ? `, ${currency}` : ""}`}><input inputmode="decimal" disabled=${!currency} placeholder=${currency ? offer.value?.amount || "" : "no currency set"} value=${row.amount || ""} onInput=${set("amount")} /><//>
    <${Field} label="Channel"><input placeholder=${offer.channel || "any"} value=${row.channel || ""} onInput=${set("channel")} /><//>
    ${choice("model_id", "Model", aliases, offer.model_id || "acceptance rate")}
    <${Field} label="Conditions" hint="all of them, with a semicolon between two"><input placeholder=${offer.conditions.join("; ")} value=${row.conditions || ""} onInput=${set("conditions")} /><//>`;
}

const overrideOf = ({ amount, conditions, ...row }, currency) => ({
  ...Object.fromEntries(Object.entries(row).filter(([, value]) => value)),
  ...(amount ? { value: { amount, currency } } : {}),
  ...(conditions ? { conditions: conditions.split(";").map((one) => one.trim()).filter(Boolean) } : {}),
});
