// Who is signed in, and which space is chosen. Tokens are in memory only: a reload signs in again.

const RENEW_BEFORE_MS = 60_000;
const PENDING = "pending-sign-in";
// The page is at <base>console or <base>docs, and the API's routes are at <base>.
export const base = new URL(".", location.href.split(/[?#]/)[0]);

export const session = { config: null, token: null, me: null, spaceId: null };
// Whether the user owns the chosen space.
export const isOwner = () => Boolean(session.me.spaces.find((one) => one.id === session.spaceId)?.is_owner);
const listeners = new Set();
let refreshToken = null;
let expiresAt = 0;

export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function update(changes) {
  Object.assign(session, changes);
  listeners.forEach((listener) => listener());
}

export async function loadConfig() {
  const response = await fetch(new URL("console/config.json", base));
  if (!response.ok) throw new Error("The console can't read its settings. Reload the page in a moment.");
  session.config = await response.json();
}

export const isLocal = () => Boolean(session.config.pool_url);
export const hasPages = () => Boolean(session.config.authorization_endpoint);

export function signOut() {
  refreshToken = null;
  update({ token: null, me: null, spaceId: null });
}

// Returns a token that is valid for the next minute, or null if the user has to sign in again.
export async function freshToken() {
  if (session.token && Date.now() > expiresAt - RENEW_BEFORE_MS) {
    if (!refreshToken) return null;
    try {
      await (isLocal() ? renewLocally() : exchange({ grant_type: "refresh_token", refresh_token: refreshToken }));
    } catch {
      return null;
    }
  }
  return session.token;
}

function keep(idToken, newRefreshToken) {
  const claims = JSON.parse(atob(idToken.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")));
  expiresAt = claims.exp * 1000;
  refreshToken = newRefreshToken || refreshToken;
  session.token = idToken;
}

// ---- In AWS: authorization code with PKCE at the user pool's own pages.

const encoded = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const random = () => encoded(crypto.getRandomValues(new Uint8Array(32)));
const redirectUri = () => location.href.split(/[?#]/)[0];

export async function redirectToSignIn() {
  const pending = { state: random(), verifier: random(), hash: location.hash };
  sessionStorage.setItem(PENDING, JSON.stringify(pending));
  const challenge = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(pending.verifier));
  const query = new URLSearchParams({
    response_type: "code",
    client_id: session.config.client_id,
    redirect_uri: redirectUri(),
    scope: "openid email profile",
    state: pending.state,
    code_challenge: encoded(challenge),
    code_challenge_method: "S256",
  });
  location.assign(`${session.config.authorization_endpoint}?${query}`);
}

// Completes a sign-in if the address has its code. Returns whether it did.
export async function completeSignIn() {
  const query = new URLSearchParams(location.search);
  if (!query.has("code") && !query.has("error")) return false;
  const pending = JSON.parse(sessionStorage.getItem(PENDING) || "null");
  sessionStorage.removeItem(PENDING);
  history.replaceState(null, "", redirectUri() + (pending?.hash || ""));
  if (query.has("error")) throw new Error(query.get("error_description") || query.get("error"));
  if (!pending || pending.state !== query.get("state")) {
    throw new Error("This sign-in was started elsewhere or is too old. Sign in again.");
  }
  await exchange({
    grant_type: "authorization_code",
    code: query.get("code"),
    redirect_uri: redirectUri(),
    code_verifier: pending.verifier,
  });
  return true;
}

async function exchange(fields) {
  const body = new URLSearchParams({ client_id: session.config.client_id, ...fields });
  const response = await fetch(session.config.token_endpoint, { method: "POST", body });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error_description || answer.error || "The sign-in failed.");
  keep(answer.id_token, answer.refresh_token);
}

// ---- On a developer's machine: the emulated pool, which creates an unknown user at the first sign-in.

async function pool(operation, body) {
  const response = await fetch(session.config.pool_url, {
    method: "POST",
    headers: {
      "Content-Type": "application/x-amz-json-1.1",
      "X-Amz-Target": `AWSCognitoIdentityProviderService.${operation}`,
    },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.message), { type: (answer.__type || "").split("#").pop() });
  return answer;
}

export async function signInLocally(email, password) {
  const credentials = { USERNAME: email, PASSWORD: password };
  try {
    await authenticateLocally("USER_PASSWORD_AUTH", credentials);
  } catch (error) {
    // The pool answers alike for an unknown user and a wrong password; only the first can be signed up.
    await signUpLocally(email, password).catch((refused) => {
      throw refused.type === "UsernameExistsException" ? error : refused;
    });
    await authenticateLocally("USER_PASSWORD_AUTH", credentials);
  }
}

async function signUpLocally(email, password) {
  const attributes = [{ Name: "email", Value: email }];
  await pool("SignUp", { ClientId: session.config.client_id, Username: email, Password: password, UserAttributes: attributes });
}

// ---- With an issuer of the operator's own: the console can't know its pages, so people paste an ID token.

export function signInWithToken(token) {
  if (token.split(".").length !== 3) throw new Error("This is no ID token: one has three parts with dots between them.");
  keep(token, null);
}

async function authenticateLocally(flow, parameters) {
  const { AuthenticationResult: result } = await pool("InitiateAuth", {
    ClientId: session.config.client_id,
    AuthFlow: flow,
    AuthParameters: parameters,
  });
  keep(result.IdToken, result.RefreshToken);
}

const renewLocally = () => authenticateLocally("REFRESH_TOKEN_AUTH", { REFRESH_TOKEN: refreshToken });
