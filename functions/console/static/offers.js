// The offers: when, where and for whom they are made, how customers have reacted, and how many can be made.

import { useState } from "preact/hooks";
import { all, get, path, post, put } from "./api.js";
import { Button, Card, Field, figure, Form, html, Interval, Loaded, Page, percent, Status, Table, useLoad, when, words } from "./view.js";

export const PRIORITIES = ["very_low", "low", "medium", "high", "very_high"];
const STATES = ["draft", "active", "inactive", "archived"];

// What the newest run for real has used of its capacities, by action or channel.
async function capacities() {
  const runs = await get("/decision-runs", { limit: 20 });
  const newest = runs.data.find((one) => one.status === "succeeded" && !one.dry_run && one.limits.length);
  if (!newest) return {};
  const { allocation } = await get(path`/decision-runs/${newest.id}/summary`);
  return Object.fromEntries((allocation?.limits || []).map((one) => [one.action_id || one.channel, { ...one, run: newest.id }]));
}

export function Offers() {
  const [round, setRound] = useState(0);
  const state = useLoad(async () => {
    const [actions, rates, groups, used] = await Promise.all([all("/actions"), all("/insights/acceptance-rates"), all("/action-groups"), capacities()]);
    return {
      groups,
      rows: actions.map((one) => ({
        ...one,
        acceptance: rates.find((rate) => rate.action_id === one.id),
        groupName: groups.find((group) => group.id === one.group)?.name,
        capacity: used[one.id] || used[one.channel],
      })),
    };
  }, [round]);
  const toggle = (one) => async () => {
    await put(path`/actions/${one.id}`, { status: one.status === "active" ? "inactive" : "active" });
    setRound(round + 1);
  };
  const columns = [
    { name: "Offer", cell: (one) => html`<a href=${`#/decisions/offers/${one.id}`}><strong>${one.name}</strong></a><small>${one.description}</small>` },
    { name: "State", cell: (one) => html`<${Status} value=${one.status} />` },
    { name: "Group", cell: (one) => one.groupName || "–" },
    { name: "Channel", cell: (one) => one.channel || "any" },
    { name: "Priority", cell: (one) => words(one.priority) },
    { name: "Model", cell: (one) => one.model_id || "acceptance rate" },
    { name: "Dates", cell: (one) => [one.start_date && `from ${when(one.start_date)}`, one.end_date && `to ${when(one.end_date)}`].filter(Boolean).join(" ") || "always" },
    { name: "Conditions", cell: (one) => (one.conditions.length ? html`<code>${one.conditions.join(" and ")}</code>` : "–") },
    { name: "Accepted", cell: (one) => html`<${Rate} rate=${one.acceptance} />` },
    { name: "Capacity", numeric: true, cell: (one) => (one.capacity ? html`<a href=${`#/decisions/runs/${one.capacity.run}`}>${figure(one.capacity.offers)} of ${figure(one.capacity.capacity)}</a>${!one.capacity.action_id ? html`<small>on ${one.capacity.channel}</small>` : ""}` : "–") },
    { name: "", cell: (one) => html`<${Button} kind="small" task=${toggle(one)}>${one.status === "active" ? "Stop" : "Activate"}<//>` },
  ];
  return html`<${Loaded} state=${state}>${({ rows, groups }) => html`
    <${Card} title="Offers"><${Table} label="Offers" columns=${columns} rows=${rows} empty="No offer yet. Make one below: decisions then choose among the active offers." /><//>
    <details class="card"><summary>New offer</summary><${OfferForm} groups=${groups} button="Make the offer" offer=${{ priority: "medium", status: "active", conditions: [] }}
      submit=${async (body, form) => { await post("/actions", { ...body, type: "offer" }); form.reset(); setRound(round + 1); }} /></details>`}<//>`;
}

// The accepted share with its 95 % band.
const Rate = ({ rate }) =>
  rate && rate.rate !== null
    ? html`<span title=${`${rate.accepted} accepted, ${rate.rejected} rejected, ${rate.ignored} ignored`}>${percent(rate.rate)} of ${figure(rate.offers)}<${Interval} value=${rate.rate} low=${rate.low} high=${rate.high} /><small>between ${percent(rate.low, 0)} and ${percent(rate.high, 0)}</small></span>`
    : html`<span class="quiet">no reaction yet</span>`;

export function Offer({ id }) {
  const [saved, setSaved] = useState(false);
  const state = useLoad(async () => {
    const [offer, rates, groups] = await Promise.all([get(path`/actions/${id}`), all("/insights/acceptance-rates"), all("/action-groups")]);
    return { offer, groups, rate: rates.find((one) => one.action_id === id) };
  }, [id]);
  return html`<${Loaded} state=${state}>${({ offer, groups, rate }) => html`
    <${Page} title=${offer.name} actions=${html`<a class="button" href="#/decisions/offers">All offers</a>`} />
    <${Card} title="How customers have reacted"><p><${Rate} rate=${rate} /></p>
      <${Table} label="Acceptance by the model's propensity" rows=${(rate?.score_bands || []).filter((one) => one.offers)} keyOf=${(one) => one.from_score} empty="No reaction to an offer that a model scored yet."
        columns=${[
          { name: "Propensity", cell: (one) => `${percent(one.from_score, 0)} to ${percent(one.to_score, 0)}` },
          { name: "Offers", numeric: true, cell: (one) => figure(one.offers) },
          { name: "Accepted", numeric: true, cell: (one) => percent(one.rate) },
          { name: "95% band", cell: (one) => html`<${Interval} value=${one.rate} low=${one.low} high=${one.high} /><small>${percent(one.low, 0)} to ${percent(one.high, 0)}</small>` },
        ]} /><//>
    <${Card} title="The offer">${saved && html`<p class="done">Saved. The next decision follows it.</p>`}
      <${OfferForm} offer=${offer} groups=${groups} button="Save" submit=${async (body) => { await put(path`/actions/${id}`, body); setSaved(true); state.reload(); }} /><//>`}<//>`;
}

const lines = (text) => (text || "").split("\n").map((line) => line.trim()).filter(Boolean);

function OfferForm({ offer, groups, button, submit }) {
  const aliases = useLoad(() => get("/checkpoints/aliases"), []);
  const models = [...new Set([...(aliases.data?.data || []).map((one) => one.id), ...(offer.model_id ? [offer.model_id] : [])])];
  const send = async ({ new_group, amount, currency, ...values }, form) => {
    const group = new_group ? (await post("/action-groups", { name: new_group, description: new_group })).id : values.group || "";
    await submit(
      {
        name: values.name,
        description: values.description,
        status: values.status,
        priority: values.priority,
        channel: values.channel || null,
        model_id: values.model_id || null,
        start_date: values.start_date || null,
        end_date: values.end_date || null,
        conditions: lines(values.conditions),
        value: amount ? { amount, currency } : null,
        ...(group || offer.id ? { group } : {}),
      },
      form,
    );
  };
  return html`<${Loaded} state=${aliases}>${() => html`<${Form} submit=${send} button=${button}><div class="row">
      <${Field} label="Name"><input name="name" required defaultValue=${offer.name} /><//>
      <${Field} label="Description"><input name="description" required defaultValue=${offer.description} /><//></div>
    <div class="fields">
      <${Field} label="State"><select name="status" value=${offer.status}>${STATES.map((one) => html`<option value=${one}>${one}</option>`)}</select><//>
      <${Field} label="Channel"><input name="channel" placeholder="email" defaultValue=${offer.channel} /><//>
      <${Field} label="Priority"><select name="priority" value=${offer.priority}>${PRIORITIES.map((one) => html`<option value=${one}>${words(one)}</option>`)}</select><//>
      <${Field} label="Model"><select name="model_id" value=${offer.model_id || ""}><option value="">acceptance rate</option>${models.map((one) => html`<option value=${one}>${one}</option>`)}</select><//>
      <${Field} label="Group"><select name="group" value=${offer.group || ""}><option value="">none</option>${groups.map((one) => html`<option value=${one.id}>${one.name}</option>`)}</select><//>
      <${Field} label="Or a new group"><input name="new_group" /><//>
      <${Field} label="From"><input type="date" name="start_date" defaultValue=${offer.start_date?.slice(0, 10)} /><//>
      <${Field} label="To, that day included"><input type="date" name="end_date" defaultValue=${offer.end_date?.slice(0, 10)} /><//>
      <${Field} label="Worth, if accepted"><input name="amount" inputmode="decimal" defaultValue=${offer.value?.amount} /><//>
      <${Field} label="Currency" hint="that of the policy"><input name="currency" maxlength="3" placeholder="EUR" defaultValue=${offer.value?.currency} /><//></div>
    <${Field} label="Conditions, one a line" hint='such as client.age >= 18 or client.country in ["DE", "AT"]'><textarea name="conditions">${offer.conditions.join("\n")}</textarea><//><//>`}<//>`;
}
