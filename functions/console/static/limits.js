// Limits of calls to language models, with their use, and prices.

import { get, path, put } from "./api.js";
import { session } from "./session.js";
import { Card, Field, figure, Form, html, Loaded, Meter, Table, useLoad, when } from "./view.js";

const NAMES = {
  requests_per_minute: "Calls a minute",
  tokens_per_minute: "Tokens a minute",
  concurrent_calls: "Calls at the same time",
  tokens_per_day: "Tokens a day",
  tokens_per_month: "Tokens a month",
  cost_per_day: "Cost a day",
  cost_per_month: "Cost a month",
};
const GROUPS = { space: "The whole space", each_user: "Each member" };

export function Limits({ owner }) {
  const address = path`/spaces/${session.spaceId}/limits`;
  const state = useLoad(async () => {
    const [limits, models] = await Promise.all([get(address), get("/models").catch(() => [])]);
    return { limits, models: (models.data || models).map((one) => one.id) };
  }, []);
  const columns = [
    { name: "Limit", cell: ([name]) => NAMES[name] || name.replace(/_/g, " ") },
    { name: "Used", numeric: true, cell: ([, one]) => figure(one.used) },
    { name: "Of", numeric: true, cell: ([, one]) => figure(one.limit) },
    { name: "", cell: ([name, one]) => html`<${Meter} value=${one.used} most=${one.limit} label=${name} />` },
    { name: "Begins anew", cell: ([, one]) => when(one.resets_at) },
  ];
  const table = (title, usage, empty) => html`<${Card} title=${title}><${Table} label=${title} columns=${columns} rows=${Object.entries(usage)} keyOf=${([name]) => name} empty=${empty} /><//>`;
  return html`<${Loaded} state=${state}>${({ limits, models }) => html`
    <div class="grid">${table("The whole space", limits.space_usage, "The owner has set no limit for the space.")}
    ${table("You", limits.own_usage, "The owner has set no limit for you.")}
    ${table("Jobs and files", limits.job_usage, "Nothing is in use.")}</div>
    ${owner && html`<${Change} limits=${limits} models=${models} save=${async (body) => { await put(address, body); state.reload(); }} />`}`}<//>`;
}

function Change({ limits, models, save }) {
  const priced = [...new Set([...models, ...Object.keys(limits.prices)])];
  const submit = async (values) => {
    const numbers = (prefix, names) => Object.fromEntries(names.filter((name) => values[`${prefix} ${name}`] !== undefined).map((name) => [name, Number(values[`${prefix} ${name}`])]));
    const prices = priced.map((model, index) => [model, numbers(`price ${index}`, ["input", "output"])]).filter(([, price]) => Object.keys(price).length);
    const groups = Object.fromEntries(Object.keys(GROUPS).map((group) => [group, numbers(group, Object.keys(NAMES))]));
    await save({ ...groups, prices: Object.fromEntries(prices), users: JSON.parse(values.users || "{}") });
  };
  const number = (name, label, value) => html`<${Field} label=${label}><input name=${name} type="number" min="0" step="any" value=${value} /><//>`;
  return html`<${Card} title="Change"><p class="quiet">An empty field sets no limit.</p>
    <${Form} submit=${submit} button="Save">
      ${Object.entries(GROUPS).map(([group, title]) => html`<fieldset><legend>${title}</legend><div class="fields">${Object.entries(NAMES).map(([name, label]) => number(`${group} ${name}`, label, limits[group][name]))}</div></fieldset>`)}
      <fieldset><legend>Price of a million tokens</legend>${priced.map((model, index) => html`<div class="row">${number(`price ${index} input`, `${model}, read`, limits.prices[model]?.input)}${number(`price ${index} output`, `${model}, written`, limits.prices[model]?.output)}</div>`)}
        ${!priced.length && html`<p class="quiet">The space has no language model yet.</p>`}</fieldset>
      <details><summary>Other limits for single members</summary><${Field} label="By the member's id, as JSON"><textarea name="users">${JSON.stringify(limits.users, null, 2)}</textarea><//></details><//><//>`;
}
