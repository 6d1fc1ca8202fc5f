// Calls of language models, keys, members, limits, webhooks, and the audit log.

import { useState } from "preact/hooks";
import { all, del, get, path, post, put } from "../api.js";
import { session } from "../session.js";
import { Button, Card, Code, Copy, Field, figure, Form, html, List, Loaded, Meter, Page, percent, Status, Table, Tabs, useLoad, when } from "../view.js";

const SECTIONS = { calls: ["Calls", Calls], keys: ["Keys", Keys], members: ["Members", Members], limits: ["Limits", Limits], webhooks: ["Webhooks", Webhooks], audit: ["Audit log", Audit] };
const isOwner = () => session.me.spaces.find((one) => one.id === session.spaceId)?.is_owner;
// Returns the e-mail address of a member, or the end of an id that belongs to nobody in the space.
function useNames() {
  const members = useLoad(() => all(here("/members")), []);
  return (id) => members.data?.find((one) => one.id === id)?.email || html`<code title=${id}>…${id.slice(-8)}</code>`;
}
const here = (rest) => path`/spaces/${session.spaceId}` + rest;

export default function Operations({ parts, query }) {
  const section = parts[0] in SECTIONS ? parts[0] : "calls";
  const View = SECTIONS[section][1];
  return html`<${Page} title="Operations" />
    <${Tabs} label="Operations" current=${section} tabs=${Object.entries(SECTIONS).map(([key, [name]]) => [key, name, `#/operations/${key}`])} />
    <${View} key=${section} query=${query} rest=${parts.slice(1)} />`;
}

// The filters of a list, in the address, so that a link shows the same.
function Filters({ section, query, fields }) {
  const submit = async (values) => {
    location.hash = `#/operations/${section}?${new URLSearchParams(values)}`;
  };
  return html`<${Form} submit=${submit} button="Filter" kind="" key=${query.toString()}><div class="row">
    ${fields.map(([name, label, options]) => html`<${Field} label=${label}>
      ${Array.isArray(options)
        ? html`<select name=${name} value=${query.get(name) || ""}><option value="">all</option>${options.map((one) => html`<option value=${one}>${one}</option>`)}</select>`
        : html`<input name=${name} type=${options || "text"} value=${query.get(name) || ""} />`}<//>`)}
  </div><//>`;
}

const given = (query, dates = ["start_date", "end_date"]) =>
  Object.fromEntries([...query].filter(([, value]) => value).map(([name, value]) => [name, dates.includes(name) ? `${value}T${name === "end_date" ? "23:59:59" : "00:00:00"}Z` : value]));

// ---- Calls

function Calls({ query }) {
  const nameOf = useNames();
  const filters = given(query);
  const { status, tag, ...summed } = filters;
  const summary = useLoad(() => get("/inference-logs/summary", summed), [query.toString()]);
  const columns = [
    { name: "When", cell: (one) => when(one.created_at) },
    { name: "Kind", cell: (one) => one.type },
    { name: "Model", cell: (one) => one.model },
    { name: "State", cell: (one) => html`<${Status} value=${one.status} />${one.error && html`<small>${one.error}</small>`}` },
    { name: "Tokens in / out", numeric: true, cell: (one) => `${figure(one.input_tokens)} / ${figure(one.output_tokens)}` },
    { name: "ms", numeric: true, cell: (one) => figure(Math.round(one.latency_ms)) },
    { name: "User", cell: (one) => nameOf(one.user) },
  ];
  const load = (_, read = 0) => get("/inference-logs", { ...filters, page: 1 + Math.floor(read / 50), page_size: 50 });
  return html`<${Filters} section="calls" query=${query} fields=${[["start_date", "From", "date"], ["end_date", "To", "date"], ["type", "Kind", ["chat", "guard", "router", "embedding", "persona", "argument", "insight"]], ["status", "State", ["success", "error", "blocked", "cancelled"]], ["model", "Model"], ["user", "User"]]} />
    <${Loaded} state=${summary}>${(one) => html`<div class="tiles">
        <div class="tile"><strong>${figure(one.total_calls)}</strong>calls</div>
        <div class="tile"><strong>${percent(one.success_rate)}</strong>succeeded</div>
        <div class="tile"><strong>${figure(one.total_tokens)}</strong>tokens</div>
        <div class="tile"><strong>${figure(Math.round(one.avg_latency_ms))}</strong>ms on average</div>
      </div>
      ${Object.keys(one.model_usage).length > 0 && html`<${Card} title="Calls by model"><${Table} label="Calls by model" rows=${Object.entries(one.model_usage)} keyOf=${([name]) => name}
        columns=${[{ name: "Model", cell: ([name]) => name }, { name: "Calls", numeric: true, cell: ([, count]) => figure(count) }, { name: "", cell: ([name, count]) => html`<${Meter} value=${count} most=${one.total_calls} label=${`Share of ${name}`} />` }]} /><//>`}`}<//>
    <${Card} title="Log"><${List} label="Log of calls" load=${load} inputs=${[query.toString()]} columns=${columns} empty="No call in this time." /><//>`;
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
    { name: "Scopes", cell: (one) => one.scopes.join(", ") },
    { name: "Valid until", cell: (one) => (one.valid_until ? when(one.valid_until) : "no end") },
    {
      name: "",
      cell: (one) =>
        (!one.state || one.state === "active") &&
        html`<${Button} kind="small danger" confirm=${`Revoke the key ${one.name}? Programs that use it stop working.`} task=${async () => { await del(owner ? here("/api-keys/") + encodeURIComponent(one.id) : path`/api-keys/${one.id}`); again(); }}>Revoke<//>`,
    },
  ];
  return html`<${Card} title=${owner ? "Keys of all members" : "Your keys"}>
      <${List} label="Keys" load=${(after) => get(owner ? here("/api-keys") : "/api-keys", { limit: 50, after })} inputs=${[round]} columns=${columns} empty="No key yet." /><//>
    <${Card} title="New key">
      ${made && html`<p class="done">This is the only time that the key is shown: <code>${made}</code> <${Copy} text=${made} /></p>`}
      <${Form} submit=${create} button="Make the key"><div class="row">
        <${Field} label="Name"><input name="name" required /><//>
        <${Field} label="May"><select name="scope"><option value="read">read</option><option value="write">read and write</option><option value="chat">chat</option></select><//>
        <${Field} label="Valid until"><input type="date" name="valid_until" /><//></div><//><//>`;
}

// ---- Members

function Members() {
  const [round, setRound] = useState(0);
  const again = () => setRound(round + 1);
  const invite = async ({ emails }, form) => {
    await post(here("/invite"), { emails: emails.split(/[\s,;]+/).filter(Boolean), roles: [] });
    form.reset();
    again();
  };
  const members = [
    { name: "Member", cell: (one) => one.email },
    { name: "Role", cell: (one) => (one.is_owner ? "Owner" : "Member") },
    { name: "Rights", cell: (one) => (one.is_owner ? "all" : one.permissions.join(", ") || "none") },
    { name: "Since", cell: (one) => when(one.created_at) },
    { name: "", cell: (one) => isOwner() && !one.is_owner && html`<${Button} kind="small danger" confirm=${`Remove ${one.email}? Their keys stop working.`} task=${async () => { await del(here("/members/") + encodeURIComponent(one.id)); again(); }}>Remove<//>` },
  ];
  const invites = [
    { name: "Invited", cell: (one) => one.email },
    { name: "State", cell: (one) => html`<${Status} value=${one.state} />` },
    { name: "Until", cell: (one) => when(one.valid_until) },
    { name: "", cell: (one) => one.state === "pending" && html`<${Button} kind="small" task=${async () => { await del(here("/invites/") + encodeURIComponent(one.id)); again(); }}>Withdraw<//>` },
  ];
  return html`<${Card} title="Members"><${List} label="Members" load=${(after) => get(here("/members"), { limit: 50, after })} inputs=${[round]} columns=${members} /><//>
    ${isOwner() && html`<${Card} title="Invites"><${List} label="Invites" load=${(after) => get(here("/invites"), { limit: 50, after })} inputs=${[round]} columns=${invites} empty="Nobody is invited." />
      <${Form} submit=${invite} button="Invite"><${Field} label="E-mail addresses" hint="Several with commas between them"><input name="emails" required /><//><//><//>`}`;
}

// ---- Limits

function Limits() {
  const state = useLoad(() => get(here("/limits")), []);
  const columns = [
    { name: "Limit", cell: ([name]) => name.replace(/_/g, " ") },
    { name: "Used", numeric: true, cell: ([, one]) => figure(one.used) },
    { name: "Of", numeric: true, cell: ([, one]) => figure(one.limit) },
    { name: "", cell: ([name, one]) => html`<${Meter} value=${one.used} most=${one.limit} label=${name} />` },
    { name: "Begins anew", cell: ([, one]) => when(one.resets_at) },
  ];
  const table = (title, usage, empty) => html`<${Card} title=${title}><${Table} label=${title} columns=${columns} rows=${Object.entries(usage)} keyOf=${([name]) => name} empty=${empty} /><//>`;
  return html`<${Loaded} state=${state}>${(limits) => html`
    ${table("The whole space", limits.space_usage, "The owner has set no limit for the space.")}
    ${table("You", limits.own_usage, "The owner has set no limit for you.")}
    ${table("Jobs and files", limits.job_usage, "Nothing is in use.")}
    ${isOwner() && html`<${Card} title="Change"><${Form} button="Save" submit=${async ({ text }) => { await put(here("/limits"), JSON.parse(text)); state.reload(); }}>
      <${Field} label="Limits as JSON" hint="The names are those of the reference: cost_per_day, tokens_per_month and so on."><textarea name="text">${JSON.stringify({ space: limits.space, each_user: limits.each_user, users: limits.users, prices: limits.prices }, null, 2)}</textarea><//><//><//>`}`}<//>`;
}

// ---- Webhooks

function Webhooks({ rest: [id], query }) {
  return id ? html`<${Deliveries} id=${id} status=${query.get("status") || ""} />` : html`<${Endpoints} />`;
}

function Endpoints() {
  const [round, setRound] = useState(0);
  const [secret, setSecret] = useState(null);
  const again = () => setRound(round + 1);
  const create = async ({ url, description, event_types }, form) => {
    const made = await post("/webhook-endpoints", { url, description, event_types: event_types.split(/[\s,]+/).filter(Boolean) });
    setSecret(made.secret);
    form.reset();
    again();
  };
  const columns = [
    { name: "Endpoint", cell: (one) => html`<a href=${`#/operations/webhooks/${one.id}`}>${one.url}</a><small>${one.description}</small>` },
    { name: "State", cell: (one) => html`<${Status} value=${one.status} />${one.verification_error && html`<small>${one.verification_error}</small>`}` },
    { name: "Events", cell: (one) => one.event_types.join(", ") || "all" },
    { name: "", cell: (one) => html`<div class="actions"><${Button} kind="small" task=${async () => { await post(path`/webhook-endpoints/${one.id}/test`); again(); }}>Send a test<//>
      <${Button} kind="small danger" confirm=${`Delete ${one.url}?`} task=${async () => { await del(path`/webhook-endpoints/${one.id}`); again(); }}>Delete<//></div>` },
  ];
  return html`<${Card} title="Endpoints"><${List} label="Endpoints" load=${(after) => get("/webhook-endpoints", { limit: 50, after })} inputs=${[round]} columns=${columns} empty="No endpoint. Make one, and your systems hear of each event." /><//>
    <${Card} title="New endpoint">${secret && html`<p class="done">Its secret, shown this once: <code>${secret}</code> <${Copy} text=${secret} /></p>`}
      <${Form} submit=${create} button="Make the endpoint"><div class="row"><${Field} label="Address"><input name="url" type="url" required placeholder="https://" /><//>
        <${Field} label="Description"><input name="description" required /><//>
        <${Field} label="Events" hint="with commas between them"><input name="event_types" required value="training.completed, insight.created" /><//></div><//><//>`;
}

function Deliveries({ id, status }) {
  const [round, setRound] = useState(0);
  const again = (task) => async () => { await task(); setRound(round + 1); };
  const columns = [
    { name: "When", cell: (one) => when(one.created_at) },
    { name: "Event", cell: (one) => one.event_type },
    { name: "State", cell: (one) => html`<${Status} value=${one.status} />${one.error && html`<small>${one.error}</small>`}` },
    { name: "Attempts", cell: (one) => html`${one.attempt_count}<small>${one.attempts.map((each) => each.status_code || each.error).join(", ")}</small>` },
    { name: "Content", cell: (one) => html`<details><summary>show</summary><${Code} value=${one.payload} /></details>` },
    { name: "", cell: (one) => html`<${Button} kind="small" task=${again(() => post(path`/webhook-endpoints/${id}/deliveries/${one.id}/replay`))}>Send again<//>` },
  ];
  const replayAll = again(() => post(path`/webhook-endpoints/${id}/deliveries/replay`, { since: new Date(Date.now() - 24 * 3600 * 1000).toISOString() }));
  return html`<${Card} title="Deliveries" actions=${html`<${Button} task=${replayAll} confirm="Send all failed messages of the last day again?">Send all failed again<//><a class="button" href="#/operations/webhooks">All endpoints</a>`}>
    <${Field} label="State"><select value=${status} onChange=${(event) => (location.hash = `#/operations/webhooks/${id}?status=${event.target.value}`)}><option value="">all</option>${["pending", "delivered", "failed"].map((one) => html`<option value=${one}>${one}</option>`)}</select><//>
    <${List} label="Deliveries" load=${(after) => get(path`/webhook-endpoints/${id}/deliveries`, { limit: 50, after, status })} inputs=${[id, status, round]} columns=${columns} empty="No delivery." every=${2000} isMoving=${(one) => one.status === "pending"} /><//>`;
}

// ---- Audit log

function Audit({ query }) {
  const nameOf = useNames();
  if (!isOwner()) return html`<p class="empty">The audit log is for owners of the space.</p>`;
  const columns = [
    { name: "When", cell: (one) => when(one.created_at) },
    { name: "Who", cell: (one) => html`${nameOf(one.actor)}${one.api_key_id && html`<small>key …${one.api_key_id.slice(-8)}</small>`}` },
    { name: "Did", cell: (one) => html`<${Status} value=${one.action} />` },
    { name: "What", cell: (one) => html`${one.entity}<small>${one.entity_id}</small>` },
    { name: "Change", cell: (one) => html`<details><summary>${changed(one).join(", ") || "show"}</summary><${Code} value=${{ before: one.before, after: one.after }} /></details>` },
  ];
  return html`<${Filters} section="audit" query=${query} fields=${[["start_date", "From", "date"], ["end_date", "To", "date"], ["entity", "Kind"], ["entity_id", "Id"], ["actor", "User"], ["api_key_id", "Key"]]} />
    <${List} label="Audit log" load=${(after) => get("/audit-logs", { ...given(query), limit: 50, after })} inputs=${[query.toString()]} columns=${columns} empty="Nothing has changed in this time." />`;
}

const changed = (row) => [...new Set([...Object.keys(row.before || {}), ...Object.keys(row.after || {})])].filter((key) => JSON.stringify(row.before?.[key]) !== JSON.stringify(row.after?.[key])).slice(0, 4);
