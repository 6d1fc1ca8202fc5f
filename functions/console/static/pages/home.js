// Spaces and invites, and the guide from a file to a leaderboard.

import { useState } from "preact/hooks";
import { refreshMe } from "../app.js";
import { get, post } from "../api.js";
import { session } from "../session.js";
import { Button, Card, Field, Form, go, html, Loaded, Page, Problem, Status, Table, useLoad, when } from "../view.js";
import { Guide } from "./guide.js";

export default function Home({ parts, query }) {
  if (parts[0] === "start" && session.spaceId) return html`<${Guide} given=${Object.fromEntries(query)} />`;
  return html`<${Page} title="Home" lead=${`Signed in as ${session.me.email}`}
      actions=${session.spaceId && html`<a class="button primary" href="#/home/start">Train a model</a>`} />
    <div class="grid">
      <${Spaces} />
      ${session.spaceId && html`<div><${Card} title="What you can do"><ul>${TASKS.map(([address, text, note]) => html`<li><a href=${address}>${text}</a><small>${note}</small></li>`)}</ul><//>
        <${Recent} /></div>`}
    </div>`;
}

const TASKS = [
  ["#/data", "Look at your data", "upload files, see what is in their columns, and what was read wrong"],
  ["#/models", "Find the best model", "compare models by metrics, curves and the value that they bring"],
  ["#/decisions", "See why a customer got an offer", "or decide for a customer, and ask what if"],
  ["#/decisions/runs", "Decide for all customers", "within capacities, for real or as a what-if beside another run"],
  ["#/review", "Review arguments", "what language models have written, beside the facts"],
  ["#/operations", "See calls and cost", "by user, model and day"],
];

function Spaces() {
  const [problem, setProblem] = useState(null);
  const create = async ({ name, description = "" }, form) => {
    const space = await post("/spaces", { name, description: description || name });
    form.reset();
    await refreshMe(space.id);
  };
  const accept = async () => {
    const answer = await post("/users/invites/accept");
    if (answer.error) setProblem(new Error(answer.error));
    await refreshMe(answer.spaces[0]);
  };
  const columns = [
    { name: "Space", cell: (space) => html`<strong>${space.name}</strong>${space.id === session.spaceId ? " (selected)" : ""}` },
    { name: "Your role", cell: (space) => (space.is_owner ? "Owner" : "Member") },
    { name: "", cell: (space) => space.id !== session.spaceId && html`<button class="small" onClick=${() => go(["home"], { space: space.id })}>Select</button>` },
  ];
  return html`<${Card} title="Spaces" actions=${html`<${Button} task=${accept} kind="small">Accept invites<//>`}>
    <p class="quiet">A space holds the files, models and decisions of one team. Nobody outside of it sees them.</p>
    <${Problem} error=${problem} />
    <${Table} label="Spaces" columns=${columns} rows=${session.me.spaces} empty="You have no space yet. Create one below." />
    <details open=${!session.me.spaces.length}><summary>New space</summary>
      <${Form} submit=${create} button="Create space">
        <${Field} label="Name"><input name="name" required maxlength="200" /><//>
        <${Field} label="Description"><input name="description" maxlength="1000" /><//>
      <//></details>
  <//>`;
}

function Recent() {
  const state = useLoad(() => get("/trainings", { pageSize: 5 }), [session.spaceId], {
    isMoving: (page) => page.data.some((one) => ["pending", "queued", "running"].includes(one.status)),
  });
  const columns = [
    { name: "Training", cell: (one) => html`<a href=${`#/models/trainings/${one.id}`}>${one.name}</a>` },
    { name: "State", cell: (one) => html`<${Status} value=${one.status} />` },
    { name: "Made", cell: (one) => when(one.created_at) },
  ];
  return html`<${Card} title="Latest trainings">
    <${Loaded} state=${state}>${(page) => html`<${Table} label="Latest trainings" columns=${columns} rows=${page.data}
      empty=${html`No training yet. <a href="#/home/start">Train a first model</a> in a few minutes.`} />`}<//>
  <//>`;
}
