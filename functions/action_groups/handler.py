from shared.handlers import load

app, handler = load("functions.action_groups.routes")
