// Members of the space: their rights, invites, and accounts of programs.

import { useState } from "preact/hooks";
import { del, get, path, post, put } from "./api.js";
import { session } from "./session.js";
import { Button, Card, Copy, Dialog, Field, Form, html, List, Status, when } from "./view.js";

// tests/functional/console compares both with what the API knows.
export const PERMISSIONS = [
  "benchmarks:create", "benchmarks:get", "benchmarks:list", "evaluations:create", "leaderboards:list",
  "trainings:create", "trainings:delete", "trainings:get", "trainings:list", "trainings:update",
  "data-models:create", "data-models:delete", "data-models:get", "data-models:list", "data-models:update",
];
export const PRIVILEGES = { "actions:publish": "activate offers", "aliases:promote": "promote models", "arguments:approve": "approve arguments" };

export function Members({ owner }) {
  const [round, setRound] = useState(0);
  const [edited, setEdited] = useState(null);
  const [key, setKey] = useState(null);
  const again = () => setRound(round + 1);
  const space = path`/spaces/${session.spaceId}`;
  const at = (one) => `${space}/members/${encodeURIComponent(one.id)}`;
  const nameOf = (one) => one.service_account || one.email;
  const invite = async ({ emails }, form) => {
    await post(`${space}/invite`, { emails: emails.split(/[\s,;]+/).filter(Boolean), roles: [] });
    form.reset();
    again();
  };
  const makeAccount = async ({ name }, form) => {
    await post(`${space}/service-accounts`, { name });
    form.reset();
    again();
  };
  const makeKey = (one) => async () => setKey((await post(`${space}/service-accounts/${encodeURIComponent(one.id)}/api-keys`, { name: one.service_account, scopes: ["read", "write", "chat"] })).key);
  const members = [
    { name: "Member", cell: (one) => html`${nameOf(one)}${one.service_account && html`<small>a program</small>`}` },
    { name: "Role", cell: (one) => (one.is_owner ? "Owner" : "Member") },
    { name: "Rights", cell: (one) => (one.is_owner ? "all" : [...Object.keys(PRIVILEGES).filter((each) => one.privileges.includes(each)).map((each) => PRIVILEGES[each]), `${one.permissions.length} of ${PERMISSIONS.length} for models`].join(", ")) },
    { name: "Since", cell: (one) => when(one.created_at) },
    {
      name: "",
      cell: (one) =>
        owner &&
        html`<div class="actions"><button class="small" onClick=${() => setEdited(one)}>Rights</button>
          ${one.service_account && html`<${Button} kind="small" task=${makeKey(one)}>New key<//>`}
          ${!one.is_owner && html`<${Button} kind="small danger" confirm=${`Remove ${nameOf(one)}? Their keys stop working.`} task=${async () => { await del(at(one)); again(); }}>Remove<//>`}</div>`,
    },
  ];
  const invites = [
    { name: "Invited", cell: (one) => one.email },
    { name: "State", cell: (one) => html`<${Status} value=${one.state} />` },
    { name: "Until", cell: (one) => when(one.valid_until) },
    { name: "", cell: (one) => one.state === "pending" && html`<${Button} kind="small" task=${async () => { await del(`${space}/invites/${encodeURIComponent(one.id)}`); again(); }}>Withdraw<//>` },
  ];
  return html`<${Card} title="Members">${key && html`<p class="done">This is the only time that the key is shown: <code>${key}</code> <${Copy} text=${key} /></p>`}
      <${List} label="Members" load=${(after) => get(`${space}/members`, { limit: 100, after })} inputs=${[round]} columns=${members} /><//>
    ${owner && html`<div class="grid"><${Card} title="Invites"><${List} label="Invites" load=${(after) => get(`${space}/invites`, { limit: 100, after })} inputs=${[round]} columns=${invites} empty="Nobody is invited." />
        <${Form} submit=${invite} button="Invite"><${Field} label="E-mail addresses" hint="Several with commas between them"><input name="emails" required /><//><//><//>
      <${Card} title="Accounts of programs"><p class="quiet">Such a member is no person, so its keys stay valid when people leave.</p>
        <${Form} submit=${makeAccount} button="Make the account"><${Field} label="Name of the program"><input name="name" required /><//><//><//></div>`}
    ${edited && html`<${Rights} member=${edited} name=${nameOf(edited)} save=${(changes) => put(at(edited), changes)} onClose=${() => { setEdited(null); again(); }} />`}`;
}

function Rights({ member, name, save, onClose }) {
  const [done, setDone] = useState(false);
  const submit = async (values) => {
    const chosen = (names) => names.filter((one) => values[one] === "on");
    const owner = values.is_owner === "on";
    await save({ ...(owner === member.is_owner ? {} : { is_owner: owner }), permissions: chosen(PERMISSIONS), privileges: chosen(Object.keys(PRIVILEGES)) });
    setDone(true);
  };
  // Such as "data-models:create": create data models.
  const right = (key) => key.split(":").reverse().join(" ").replace("-", " ");
  const check = (key, text, on) => html`<label class="check"><input type="checkbox" name=${key} checked=${on} /> ${text}</label>`;
  return html`<${Dialog} title=${`Rights of ${name}`} onClose=${onClose}>${done
    ? html`<p class="done">Saved. They hold within ten seconds.</p>`
    : html`<${Form} submit=${submit} button="Save">
        ${check("is_owner", "Owner of the space, who may do everything", member.is_owner)}
        <fieldset><legend>What reaches customers</legend>${Object.entries(PRIVILEGES).map(([key, text]) => check(key, text, member.privileges.includes(key)))}</fieldset>
        <fieldset><legend>Models</legend><div class="fields">${PERMISSIONS.map((key) => check(key, right(key), member.permissions.includes(key)))}</div></fieldset><//>`}<//>`;
}
