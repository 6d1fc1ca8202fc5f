from shared.http.adapter import load

app, handler = load("functions.api_keys.routes")
