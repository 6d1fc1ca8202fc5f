// The frame of the console: sign-in, choice of the space, navigation, and the page of the address.

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { call } from "./api.js";
import {
  completeSignIn,
  hasPages,
  isLocal,
  loadConfig,
  onChange,
  redirectToSignIn,
  session,
  signInLocally,
  signInWithToken,
  signOut,
  update,
} from "./session.js";
import { PAGES, sectionAddress } from "./sections.js";
import { address, Field, Form, go, html, Problem, route } from "./view.js";

// Reads the caller, and selects a space: the one of the address, the one before, or the first.
export async function refreshMe(wanted) {
  const me = await call("GET", "/me");
  const ids = me.spaces.map((space) => space.id);
  if (wanted) history.replaceState(null, "", address(["home"], { space: wanted }));
  const candidates = [route().space, session.spaceId, ids[0]];
  update({ me, spaceId: candidates.find((id) => ids.includes(id)) || null });
}

// Takes the space of the address, or completes the address with the chosen one.
function followAddress() {
  const { space } = route();
  const hash = location.hash || "#/home";
  if (!space && session.spaceId) history.replaceState(null, "", `${hash}${hash.includes("?") ? "&" : "?"}space=${session.spaceId}`);
  if (space && space !== session.spaceId && session.me?.spaces.some((one) => one.id === space)) update({ spaceId: space });
}

function SignIn({ problem }) {
  const submit = async ({ email, password }) => {
    await signInLocally(email, password);
    await refreshMe();
  };
  const paste = async ({ token }) => {
    signInWithToken(token.trim());
    await refreshMe();
  };
  return html`<main class="sign-in">
    <h1>Inference console</h1>
    <p class="quiet">Connect customer files, train and compare models, decide the next best action, and review its argument.</p>
    <${Problem} error=${problem} />
    ${isLocal()
      ? html`<${Form} submit=${submit} button="Sign in">
            <${Field} label="E-mail address"><input name="email" type="email" required autocomplete="username" /><//>
            <${Field} label="Password" hint="At least 12 characters, with a capital letter, a digit and a symbol">
              <input name="password" type="password" required autocomplete="current-password" />
            <//>
          <//>
          <p class="quiet">This is your own machine's user pool. An address that it does not know gets an account with this password.</p>`
      : hasPages()
        ? html`<button class="primary" onClick=${redirectToSignIn}>Sign in</button>`
        : html`<${Form} submit=${paste} button="Sign in"><${Field} label="ID token" hint="Get one from your organisation's sign-in."><textarea name="token" required></textarea><//><//>`}
    <p><a href="docs">API reference</a></p>
  </main>`;
}

function Frame({ page }) {
  const [module, setModule] = useState(null);
  const [failed, setFailed] = useState(null);
  const [open, setOpen] = useState(false);
  const name = PAGES.some(([key]) => key === page.parts[0]) ? page.parts[0] : "home";
  useEffect(() => setOpen(false), [page.parts.join("/")]);
  useEffect(() => {
    setModule(null);
    setFailed(null);
    import(`./pages/${name}.js`).then(
      (loaded) => setModule({ name, View: loaded.default }),
      () => setFailed(new Error("This page could not be loaded. Check the connection, and reload it in the browser: there may be a new version of the console.")),
    );
  }, [name]);
  const choose = (event) => go([name], { space: event.target.value });
  const isStrange = page.space && !session.me.spaces.some((one) => one.id === page.space);
  return html`<a class="skip" href="#main" onClick=${(event) => {
      event.preventDefault();
      document.getElementById("main").focus();
    }}>Skip to content</a>
    <header class="top">
      <button class="plain menu" aria-expanded=${open} aria-controls="menu" onClick=${() => setOpen(!open)}>Menu</button>
      <a class="brand" href="#/home">Inference</a>
      ${session.me.spaces.length > 0 &&
      html`<label class="space"><span class="hidden">Space</span>
        <select value=${session.spaceId} onChange=${choose}>
          ${session.me.spaces.map((space) => html`<option value=${space.id}>${space.name}</option>`)}
        </select></label>`}
      <span class="grow"></span>
      <span class="quiet who">${session.me.email}</span>
      <button class="small" onClick=${signOut}>Sign out</button>
    </header>
    <div class="columns">
      <nav id="menu" class=${open ? "side open" : "side"} aria-label="Pages">
        ${PAGES.map(([key, text, sections]) => html`<a href=${`#/${key}`} aria-current=${key === name ? (sections.length ? "true" : "page") : undefined}>${text}</a>
          ${sections.map(([section, title]) => html`<a class="section" href=${sectionAddress(key, section)} aria-current=${key === name && section === (page.parts[1] || sections[0][0]) ? "page" : undefined}>${title}</a>`)}`)}
        <a href="docs">API reference</a>
      </nav>
      <main id="main" tabindex="-1">
        <${Problem} error=${failed} />
        ${isStrange
          ? html`<p class="empty">This link leads to a space that you do not belong to. Ask one of its owners for an invite, or <a href="#/home">see your own spaces</a>.</p>`
          : !session.spaceId && name !== "home"
          ? html`<p class="empty">You have no space yet. <a href="#/home">Create one</a>, or accept an invite there.</p>`
          : module?.name === name && html`<${module.View} key=${`${name} ${session.spaceId}`} parts=${page.parts.slice(1)} query=${page.query} />`}
      </main>
    </div>`;
}

function App({ problem }) {
  const [, redraw] = useState(0);
  useEffect(() => {
    const draw = () => {
      followAddress();
      redraw((count) => count + 1);
    };
    draw();
    window.addEventListener("hashchange", draw);
    const stop = onChange(draw);
    return () => {
      window.removeEventListener("hashchange", draw);
      stop();
    };
  }, []);
  return session.me ? html`<${Frame} page=${route()} />` : html`<${SignIn} problem=${problem} />`;
}

async function start() {
  const root = document.getElementById("app");
  let problem = null;
  try {
    await loadConfig();
    if (await completeSignIn()) await refreshMe();
  } catch (error) {
    problem = error;
  }
  root.replaceChildren();
  if (session.config) render(html`<${App} problem=${problem} />`, root);
  else render(html`<${Problem} error=${problem} />`, root);
}

start();
