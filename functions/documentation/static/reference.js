// The reference: Scalar shows the OpenAPI document, and the requests that people try carry the token of the sign-in.
//
// The sign-in is that of the console. Scalar never gets the token: it is added to each request when it is sent.

import { base, completeSignIn, freshToken, hasPages, isLocal, loadConfig, redirectToSignIn, session, signInLocally, signInWithToken, signOut } from "../console/session.js";
import { createApiReference } from "./scalar/standalone.esm.js";

// Our bar is above Scalar's page. Its own colours for methods and remarks have too little contrast to be read by all.
const STYLE = `
:root { --scalar-custom-header-height: 3rem; --scalar-font: system-ui, sans-serif; --scalar-font-code: ui-monospace, monospace; }
.light-mode { --scalar-color-2: #4a4f57; --scalar-color-3: #5b616b; --scalar-color-green: #07663a; --scalar-color-red: #b3261e;
  --scalar-color-yellow: #6b5200; --scalar-color-orange: #97400a; --scalar-color-blue: #0b5cab; }
.dark-mode { --scalar-color-2: #b4bac4; --scalar-color-3: #a3adbb; --scalar-color-red: #ff8a80; }
.markdown pre code.hljs, .markdown pre code.hljs * { white-space: pre-wrap !important; overflow-wrap: anywhere; overflow: visible !important; }
.sidebar-search-placeholder { color: var(--scalar-color-2); }
`;
const part = (id) => document.getElementById(id);
const dialog = part("dialog");
const form = dialog.querySelector("form");
const button = part("sign-in");
const choice = part("spaces");

// Sends what Scalar built. What somebody typed in its own fields stays.
async function send(input, options) {
  const request = new Request(input, options);
  const headers = new Headers(request.headers);
  if (request.url.startsWith(base.href) && session.token) {
    const typed = /^Bearer \S/.test(headers.get("Authorization") || "");
    const token = typed ? null : await freshToken();
    if (token) headers.set("Authorization", `Bearer ${token}`);
    else if (!typed) show();
    if (session.spaceId && !headers.get("X-Space-Id")) headers.set("X-Space-Id", session.spaceId);
  }
  return fetch(new Request(request, { headers }));
}

function show() {
  button.textContent = session.token ? "Sign out" : "Sign in";
  part("who").textContent = session.me?.email || "";
  choice.hidden = (session.me?.spaces.length || 0) < 2;
  choice.querySelector("select").replaceChildren(...(session.me?.spaces || []).map(({ id, name }) => new Option(name, id, false, id === session.spaceId)));
}

async function readMe() {
  const response = await fetch(new URL("me", base), { headers: { Authorization: `Bearer ${await freshToken()}` } });
  const answer = await response.json();
  if (!response.ok) {
    signOut();
    throw new Error(answer.error);
  }
  session.me = answer;
  session.spaceId = answer.spaces[0]?.id || null;
  show();
}

function openDialog() {
  for (const label of form.querySelectorAll(".pool")) label.hidden = !isLocal();
  form.querySelector(".token").hidden = isLocal();
  form.email.required = form.password.required = isLocal();
  form.token.required = !isLocal();
  part("explanation").textContent = isLocal()
    ? "At this machine's user pool. An address that it does not know gets an account with this password."
    : "Get an ID token from your organisation's sign-in, or make an API key.";
  part("problem").textContent = "";
  dialog.showModal();
}

async function confirm(event) {
  if (event.submitter?.value !== "confirm") return;
  event.preventDefault();
  part("confirm").disabled = true;
  try {
    if (isLocal()) await signInLocally(form.email.value, form.password.value);
    else signInWithToken(form.token.value.trim());
    await readMe();
    dialog.close();
    form.reset();
  } catch (error) {
    part("problem").textContent = error.message;
  } finally {
    part("confirm").disabled = false;
  }
}

function listen() {
  button.disabled = false;
  button.addEventListener("click", () => {
    if (session.token) {
      signOut();
      show();
    } else if (hasPages()) redirectToSignIn();
    else openDialog();
  });
  form.addEventListener("submit", confirm);
  choice.addEventListener("change", ({ target }) => (session.spaceId = target.value));
}

// Scalar switches between light and dark by a class of the body, and our bar follows.
function followColours() {
  const follow = () => {
    const classes = document.body.classList;
    document.documentElement.classList.toggle("dark", classes.contains("dark-mode"));
    document.documentElement.classList.toggle("light", classes.contains("light-mode"));
  };
  new MutationObserver(follow).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  follow();
}

async function start() {
  followColours();
  part("reference").replaceChildren();
  createApiReference("#reference", {
    url: new URL("openapi.json", base).href,
    servers: [{ url: base.href.replace(/\/$/, "") }],
    fetch: send,
    customFetch: send,
    // Nothing leaves for its maker's servers.
    agent: { disabled: true },
    mcp: { disabled: true },
    telemetry: false,
    withDefaultFonts: false,
    hideClientButton: true,
    showDeveloperTools: "never",
    persistAuth: false,
    authentication: { preferredSecurityScheme: "HTTPBearer" },
    // Our own samples are in the document.
    hiddenClients: true,
    documentDownloadType: "none",
    theme: "default",
    metaData: { title: "Inference API" },
    customCss: STYLE,
  });
  await loadConfig();
  listen();
  if (await completeSignIn()) await readMe();
}

start().catch((error) => {
  part("who").textContent = error.message;
});
