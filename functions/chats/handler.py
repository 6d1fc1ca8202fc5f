from shared.http.adapter import load

app, handler = load("functions.chats.routes", "functions.chats.openai_routes")
