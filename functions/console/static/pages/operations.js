// Calls of language models, keys, members, limits, webhooks, and the audit log.

import { useState } from "preact/hooks";
import { all, del, get, path, post } from "../api.js";
import { Limits } from "../limits.js";
import { Members } from "../members.js";
import { isOwner, session } from "../session.js";
import { Calls, given } from "../usage.js";
import { Button, Card, Code, Copy, Field, Filters, Form, html, idEnd, List, Loaded, Plain, SectionPage, Status, Table, useLoad, when, words } from "../view.js";

const SECTIONS = {
  calls: ({ query }) => html`<${Calls} query=${query} names=${useNames()} />`,
  keys: Keys,
  members: () => html`<${Members} owner=${isOwner()} />`,
  limits: () => html`<${Limits} owner=${isOwner()} />`,
  webhooks: Webhooks,
  audit: Audit,
};
// Loads the members, and what names a user: the e-mail address of a member, or the end of an id that belongs to nobody in the space.
const useNames = () =>
  useLoad(async () => {
    const members = (await all(here("/members"))).map((one) => [one.id, one.service_account || one.email]);
    const names = { system: "the platform", ...Object.fromEntries(members) };
    return { members, nameOf: (id) => names[id] || html`<code title=${id}>${idEnd(id)}</code>` };
  }, []);
const here = (rest) => path`/spaces/${session.spaceId}` + rest;

export default function Operations({ parts, query }) {
  const section = parts[0] in SECTIONS ? parts[0] : "calls";
  const View = SECTIONS[section];
  return html`<${SectionPage} page="operations" current=${section} />
    <${View} key=${section} query=${query} rest=${parts.slice(1)} />`;
}

// ---- Keys

function Keys() {
  const [round, setRound] = useState(0);
  const [made, setMade] = useState(null);
  const again = () => setRound(round + 1);
  const create = async ({ name, scope, valid_until }, form) => {
    const key = await post("/api-keys", { name, scopes: [scope], ...(valid_until ? { valid_until: `${valid_until}T00:00:00Z` } : {}) });
    setMade(key.key);
    form.reset();
    again();
  };
  const owner = isOwner();
  const columns = [
    { name: "Key", cell: (one) => html`<strong>${one.name}</strong><small>${one.hint}</small>` },
    ...(owner ? [{ name: "Of", cell: (one) => one.email || one.user_id }, { name: "State", cell: (one) => html`<${Status} value=${one.state} />` }, { name: "Last use", cell: (one) => html`${when(one.last_used_at)}<small>${one.last_used_address || ""}</small>` }] : []),
    { name: "May", cell: (one) => one.scopes.join(", ") },
    { name: "Valid until", cell: (one) => (one.valid_until ? when(one.valid_until) : "no end") },
    {
      name: "",
      cell: (one) =>
        (!one.state || one.state === "active") &&
        html`<${Button} kind="small danger" confirm=${`Revoke the key ${one.name}? Programs that use it stop working.`} task=${async () => { await del(owner ? here("/api-keys/") + encodeURIComponent(one.id) : path`/api-keys/${one.id}`); again(); }}>Revoke<//>`,
    },
  ];
  return html`<${Card} title=${owner ? "Keys of all members" : "Your keys"}>
      <${List} label="Keys" load=${(after) => get(owner ? here("/api-keys") : "/api-keys", { limit: 100, after })} inputs=${[round]} columns=${columns} empty="No key yet. Make one below, and a program can work with this space." /><//>
    <${Card} title="New key">
      ${made && html`<p class="done">This is the only time that the key is shown: <code>${made}</code> <${Copy} text=${made} /></p>`}
      <${Form} submit=${create} button="Make the key"><div class="row">
        <${Field} label="Name"><input name="name" required /><//>
        <${Field} label="It may"><select name="scope"><option value="read">read</option><option value="write">read and write</option><option value="chat">chat</option></select><//>
        <${Field} label="Valid until"><input type="date" name="valid_until" /><//></div><//><//>`;
}

// ---- Webhooks

// tests/functional/console compares them with what the API knows.
export const EVENTS = [
  "training.started", "training.completed", "training.failed", "training.stopped",
  "evaluation.completed", "evaluation.failed", "evaluation.stopped", "scan.completed", "scan.failed", "connector.schema_drift",
  "checkpoint.created", "checkpoint_alias.moved", "insight.created", "reaction.created", "reaction.changed",
  "argument.review_requested", "argument.approved", "argument.rejected", "space.deleted", "webhook_endpoint.disabled", "webhook_endpoint.test",
];
const eventName = (name) => words(name.replace(".", " "));

function Webhooks({ rest: [id], query }) {
  return id ? html`<${Deliveries} id=${id} status=${query.get("status") || ""} />` : html`<${Endpoints} />`;
}

function Endpoints() {
  const [round, setRound] = useState(0);
  const [secret, setSecret] = useState(null);
  const again = () => setRound(round + 1);
  const create = async ({ url, description, ...values }, form) => {
    const made = await post("/webhook-endpoints", { url, description, event_types: EVENTS.filter((one) => values[one] === "on") });
    setSecret(made.secret);
    form.reset();
    again();
  };
  const columns = [
    { name: "Endpoint", cell: (one) => html`<a href=${`#/operations/webhooks/${one.id}`}>${one.url}</a><small>${one.description}</small>` },
    { name: "State", cell: (one) => html`<${Status} value=${one.status} />${one.verification_error && html`<small>${one.verification_error}</small>`}` },
    { name: "Events", cell: (one) => one.event_types.map(eventName).join(", ") || "all" },
    { name: "", cell: (one) => html`<div class="actions"><${Button} kind="small" task=${async () => { await post(path`/webhook-endpoints/${one.id}/test`); again(); }}>Send a test<//>
      <${Button} kind="small danger" confirm=${`Delete ${one.url}?`} task=${async () => { await del(path`/webhook-endpoints/${one.id}`); again(); }}>Delete<//></div>` },
  ];
  return html`<${Card} title="Endpoints"><${List} label="Endpoints" load=${(after) => get("/webhook-endpoints", { limit: 100, after })} inputs=${[round]} columns=${columns} empty="No endpoint. Make one, and your systems hear of each event." /><//>
    <${Card} title="New endpoint">${secret && html`<p class="done">Its secret, shown this once: <code>${secret}</code> <${Copy} text=${secret} /></p>`}
      <${Form} submit=${create} button="Make the endpoint"><div class="row"><${Field} label="Address"><input name="url" type="url" required placeholder="https://" /><//>
        <${Field} label="Description"><input name="description" required /><//>
        </div><fieldset><legend>Events, or all if none is chosen</legend><div class="fields">${EVENTS.map((one) => html`<label class="check"><input type="checkbox" name=${one} /> ${eventName(one)}</label>`)}</div></fieldset><//><//>`;
}

function Deliveries({ id, status }) {
  const [round, setRound] = useState(0);
  const again = (task) => async () => { await task(); setRound(round + 1); };
  const columns = [
    { name: "When", cell: (one) => when(one.created_at) },
    { name: "Event", cell: (one) => eventName(one.event_type) },
    { name: "State", cell: (one) => html`<${Status} value=${one.status} />${one.error && html`<small>${one.error}</small>`}` },
    { name: "Attempts", cell: (one) => html`${one.attempt_count}<small>${one.attempts.map((each) => each.status_code || each.error).join(", ")}</small>` },
    { name: "Content", cell: (one) => html`<details><summary>show</summary><${Code} value=${one.payload} /></details>` },
    { name: "", cell: (one) => html`<${Button} kind="small" task=${again(() => post(path`/webhook-endpoints/${id}/deliveries/${one.id}/replay`))}>Send again<//>` },
  ];
  const replayAll = again(() => post(path`/webhook-endpoints/${id}/deliveries/replay`, { since: new Date(Date.now() - 24 * 3600 * 1000).toISOString() }));
  return html`<${Card} title="Deliveries" actions=${html`<${Button} task=${replayAll} confirm="Send all failed messages of the last day again?">Send all failed again<//><a class="button" href="#/operations/webhooks">All endpoints</a>`}>
    <${Field} label="State"><select value=${status} onChange=${(event) => (location.hash = `#/operations/webhooks/${id}?status=${event.target.value}`)}><option value="">all</option>${["pending", "delivered", "failed"].map((one) => html`<option value=${one}>${one}</option>`)}</select><//>
    <${List} label="Deliveries" load=${(after) => get(path`/webhook-endpoints/${id}/deliveries`, { limit: 100, after, status })} inputs=${[id, status, round]} columns=${columns} empty="No delivery yet. Send a test from the list of endpoints." every=${2000} isMoving=${(one) => one.status === "pending"} /><//>`;
}

// ---- Audit log

function Audit({ query }) {
  const names = useNames();
  const { nameOf, members = [] } = names.data || {};
  if (!isOwner()) return html`<p class="empty">The audit log is for owners of the space.</p>`;
  const columns = [
    { name: "When", cell: (one) => when(one.created_at) },
    { name: "Who", cell: (one) => html`${nameOf(one.actor)}${one.api_key_id && html`<small>key ${idEnd(one.api_key_id)}</small>`}` },
    { name: "Did", cell: (one) => html`<${Status} value=${one.action} />` },
    { name: "What", cell: (one) => html`${words(one.entity)}${named(one)}<small>${one.entity_id}</small>` },
    { name: "Change", cell: (one) => html`<details><summary>${changed(one).slice(0, 4).map(words).join(", ") || "show"}</summary><${Change} row=${one} /></details>` },
  ];
  return html`<${Filters} section="audit" query=${query} fields=${[["start_date", "From", "date"], ["end_date", "To", "date"], ["entity", "Kind"], ["entity_id", "Its id"], ["actor", "User", members], ["api_key_id", "Id of a key"]]} />
    <${Loaded} state=${names}>${() => html`<${List} label="Audit log" load=${(after) => get("/audit-logs", { ...given(query), limit: 100, after })} inputs=${[query.toString()]} columns=${columns} empty="Nothing has changed in this time. Choose a longer time, or fewer filters." />`}<//>`;
}

const named = ({ before, after }) => {
  const name = (after || before)?.name;
  return typeof name === "string" && html` <strong>${name}</strong>`;
};
const changed = (row) => [...new Set([...Object.keys(row.before || {}), ...Object.keys(row.after || {})])].filter((key) => JSON.stringify(row.before?.[key]) !== JSON.stringify(row.after?.[key]));

const Change = ({ row }) =>
  html`<${Table} label="Change" rows=${changed(row)} keyOf=${(key) => key} empty="Nothing of what is shown here."
    columns=${[{ name: "Field", cell: words }, { name: "Before", cell: (key) => html`<${Plain} value=${row.before?.[key]} />` }, { name: "After", cell: (key) => html`<${Plain} value=${row.after?.[key]} />` }]} />`;
