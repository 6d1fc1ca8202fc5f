from shared.http.adapter import load

app, handler = load("functions.action_groups.routes")
