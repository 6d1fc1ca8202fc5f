// Limits of calls to language models, with their use, and prices.

import { useState } from "preact/hooks";
import { all, get, path, put } from "./api.js";
import { session } from "./session.js";
import { Card, Field, figure, Form, html, idEnd, Loaded, Meter, Table, useLoad, when, words } from "./view.js";

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
    const [limits, models, members] = await Promise.all([get(address), get("/models").catch(() => []), all(path`/spaces/${session.spaceId}/members`)]);
    return { limits, models: (models.data || models).map((one) => one.id), members: members.map((one) => [one.id, one.service_account || one.email]) };
  }, []);
  const columns = [
    { name: "Limit", cell: ([name]) => NAMES[name] || words(name) },
    { name: "Used", numeric: true, cell: ([, one]) => figure(one.used) },
    { name: "Of", numeric: true, cell: ([, one]) => figure(one.limit) },
    { name: "", cell: ([name, one]) => html`<${Meter} value=${one.used} most=${one.limit} label=${name} />` },
    { name: "Begins anew", cell: ([, one]) => when(one.resets_at) },
  ];
  const table = (title, usage, empty) => html`<${Card} title=${title}><${Table} label=${title} columns=${columns} rows=${Object.entries(usage)} keyOf=${([name]) => name} empty=${empty} /><//>`;
  return html`<${Loaded} state=${state}>${({ limits, models, members }) => html`
    <div class="grid wide">${table("The whole space", limits.space_usage, "The owner has set no limit for the space.")}
    ${table("You", limits.own_usage, "The owner has set no limit for you.")}
    ${table("Jobs and files", limits.job_usage, "Nothing is in use.")}</div>
    ${owner && html`<${Change} limits=${limits} models=${models} members=${members} save=${async (body) => { await put(address, body); state.reload(); }} />`}`}<//>`;
}

function Change({ limits, models, members, save }) {
  const [singles, setSingles] = useState(Object.keys(limits.users));
  const others = members.filter(([id]) => !singles.includes(id));
  const nameOf = (id) => members.find(([one]) => one === id)?.[1] || idEnd(id);
  const priced = [...new Set([...models, ...Object.keys(limits.prices)])];
  const submit = async (values) => {
    const numbers = (prefix, names) => Object.fromEntries(names.filter((name) => values[`${prefix} ${name}`] !== undefined).map((name) => [name, Number(values[`${prefix} ${name}`])]));
    const prices = priced.map((model, index) => [model, numbers(`price ${index}`, ["input", "output"])]).filter(([, price]) => Object.keys(price).length);
    const groups = Object.fromEntries(Object.keys(GROUPS).map((group) => [group, numbers(group, Object.keys(NAMES))]));
    const users = singles.map((id) => [id, numbers(id, Object.keys(NAMES))]).filter(([, one]) => Object.keys(one).length);
    await save({ ...groups, prices: Object.fromEntries(prices), users: Object.fromEntries(users) });
  };
  const number = (name, label, value) => html`<${Field} label=${label}><input name=${name} type="number" min="0" step="any" defaultValue=${value} /><//>`;
  const fields = (group, title, given) => html`<fieldset key=${group}><legend>${title}</legend><div class="fields">${Object.entries(NAMES).map(([name, label]) => number(`${group} ${name}`, label, given[name]))}</div></fieldset>`;
  return html`<${Card} title="Change"><p class="quiet">An empty field sets no limit.</p>
    <${Form} submit=${submit} button="Save" done="Saved. They hold from the next call on.">
      ${Object.entries(GROUPS).map(([group, title]) => fields(group, title, limits[group]))}
      <fieldset><legend>Price of a million tokens</legend>${priced.map((model, index) => html`<div class="row">${number(`price ${index} input`, `${model}, read`, limits.prices[model]?.input)}${number(`price ${index} output`, `${model}, written`, limits.prices[model]?.output)}</div>`)}
        ${!priced.length && html`<p class="quiet">The space has no language model yet.</p>`}</fieldset>
      ${singles.map((id) => fields(id, `Only ${nameOf(id)}, in place of those of each member`, limits.users[id] || {}))}
      ${others.length > 0 && html`<${Field} label="Other limits for one member"><select value="" onChange=${({ target }) => setSingles([...singles, target.value])}><option value="">Choose a member</option>${others.map(([id, name]) => html`<option value=${id}>${name}</option>`)}</select><//>`}<//><//>`;
}
