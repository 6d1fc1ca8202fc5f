from shared.handlers import load

app, handler = load(
    "functions.chats.routes",
    "functions.chats.openai_routes",
    "functions.chats.text_routes",
    "functions.chats.responses_routes",
)
