// What holds for each customer: the policy of the space as a form, and its fields for a what-if.

import { useState } from "preact/hooks";
import { all, get, put } from "./api.js";
import { PRIORITIES } from "./offers.js";
import { Rows } from "./runs.js";
import { Card, Field, Form, html, Loaded, useLoad, when, words } from "./view.js";

const REACTIONS = ["accepted", "rejected", "ignored"];

// Loads the policy, with the offers and groups that its limits may name.
export const usePolicy = () =>
  useLoad(async () => {
    const [policy, actions, groups] = await Promise.all([get("/insights/policy"), all("/actions"), all("/action-groups")]);
    return { policy, actions, groups };
  }, []);

export const channelsOf = (actions) => [...new Set(actions.map((one) => one.channel).filter(Boolean))];

// A limit of contacts in words. `names` has the offers and groups by id.
export const limitText = (one, names) =>
  [`${one.contacts} in ${one.days} ${one.period === "calendar" ? "calendar days" : "days"}`, one.channel && `on ${one.channel}`, one.action_id && `for ${names[one.action_id] || "one offer"}`, one.group && `for ${names[one.group] || "one group"}`].filter(Boolean).join(" ");

const given = (row) => Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null && value !== ""));

export const limitsOf = (rows) => rows.map((row) => ({ ...given(row), contacts: Number(row.contacts), days: Number(row.days) }));

// The policy as values of the form's fields.
export const valuesOf = (policy) => ({
  ...Object.fromEntries(PRIORITIES.map((one) => [`weight ${one}`, policy.weights[one]])),
  ...Object.fromEntries(REACTIONS.map((one) => [`rest ${one}`, policy.suppression_days[one]])),
  default_value: policy.default_value,
});

// The fields that both forms have. `limits` are the rows of contact limits, which the form around keeps.
export const PolicyFields = ({ policy, actions, groups, limits, setLimits }) => html`
  <fieldset><legend>Weight of each priority in the score</legend><div class="fields">
    ${PRIORITIES.map((one) => html`<${Field} label=${words(one)}><input name=${`weight ${one}`} type="number" min="0.01" max="1000" step="any" required defaultValue=${policy.weights[one]} /><//>`)}</div></fieldset>
  <fieldset><legend>Days without the same offer, after a customer has</legend><div class="fields">
    ${REACTIONS.map((one) => html`<${Field} label=${`${one} it`}><input name=${`rest ${one}`} type="number" min="0" max="3650" required defaultValue=${policy.suppression_days[one]} /><//>`)}</div></fieldset>
  <${Field} label="Worth of an offer without a value of its own" hint=${policy.currency ? `in ${policy.currency}` : ""}><input name="default_value" inputmode="decimal" required defaultValue=${policy.default_value} /><//>
  <${Rows} label="Limits of contacts with one customer" rows=${limits} setRows=${setLimits} blank=${{ contacts: 1, days: 7, period: "rolling" }}>${(row, change) => html`
    <${Field} label="At most, contacts"><input type="number" min="0" max="1000" required value=${row.contacts} onInput=${({ target }) => change({ contacts: target.value })} /><//>
    <${Field} label="In days"><input type="number" min="1" max="365" required value=${row.days} onInput=${({ target }) => change({ days: target.value })} /><//>
    <${Field} label="Days are"><select value=${row.period} onChange=${({ target }) => change({ period: target.value })}><option value="rolling">24 hours each</option><option value="calendar">days of the calendar</option></select><//>
    <${Field} label="On"><select value=${row.channel || ""} onChange=${({ target }) => change({ channel: target.value })}><option value="">any channel</option>${[...new Set([...channelsOf(actions), ...(row.channel ? [row.channel] : [])])].map((one) => html`<option value=${one}>${one}</option>`)}</select><//>
    <${Field} label="About"><select value=${row.action_id || row.group || ""} onChange=${({ target }) => change({ action_id: actions.some((one) => one.id === target.value) ? target.value : null, group: groups.some((one) => one.id === target.value) ? target.value : null })}>
      <option value="">any offer</option>${groups.map((one) => html`<option value=${one.id}>offers of ${one.name}</option>`)}${actions.map((one) => html`<option value=${one.id}>${one.name}</option>`)}</select><//>`}<//>`;

// The fields of the form as the API takes them.
export const policyOf = (values, limits) => ({
  weights: Object.fromEntries(PRIORITIES.map((one) => [one, Number(values[`weight ${one}`])])),
  suppression_days: Object.fromEntries(REACTIONS.map((one) => [one, Number(values[`rest ${one}`])])),
  default_value: String(values.default_value),
  contact_limits: limitsOf(limits),
});

export function Policy() {
  const state = usePolicy();
  const [saved, setSaved] = useState(false);
  const onDone = () => {
    setSaved(true);
    state.reload();
  };
  return html`${saved && html`<p class="done" role="status">Saved. The next decision follows it.</p>`}
    <${Loaded} state=${state}>${(found) => html`<${Change} key=${found.policy.updated_at} ...${found} onDone=${onDone} />`}<//>`;
}

function Change({ policy, actions, groups, onDone }) {
  const [limits, setLimits] = useState(policy.contact_limits);
  const submit = async (values) => {
    await put("/insights/policy", {
      ...policyOf(values, limits),
      ...(values.currency ? { currency: values.currency.toUpperCase() } : {}),
      client_key: { fields: values.fields.split(",").map((one) => one.trim()).filter(Boolean) },
      require_client_key: values.require_client_key === "on",
      reservation_minutes: Math.round(60 * Number(values.reservation_hours)),
      time_zone: values.time_zone,
    });
    onDone();
  };
  return html`<${Card} title="What holds for each customer">
    <${Form} submit=${submit} button="Save">
      <${PolicyFields} policy=${policy} actions=${actions} groups=${groups} limits=${limits} setLimits=${setLimits} />
      <div class="fields">
        <${Field} label="Currency of all values"><input name="currency" maxlength="3" placeholder="EUR" defaultValue=${policy.currency} /><//>
        <${Field} label="Time zone"><input name="time_zone" required defaultValue=${policy.time_zone} /><//>
        <${Field} label="A reserved contact counts for, hours"><input name="reservation_hours" type="number" min="0.1" max="744" step="any" required defaultValue=${policy.reservation_minutes / 60} /><//></div>
      <${Field} label="Fields that name a customer, in this order"><input name="fields" required defaultValue=${policy.client_key.fields.join(", ")} /><//>
      <label class="check"><input type="checkbox" name="require_client_key" defaultChecked=${policy.require_client_key} /> Refuse a customer whom no field names</label>
    <//>
    ${policy.updated_at && html`<p class="quiet">Changed ${when(policy.updated_at)}.</p>`}<//>`;
}
