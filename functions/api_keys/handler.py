from shared.handlers import load

app, handler = load("functions.api_keys.routes")
