from shared.handlers import load

app, handler = load("functions.documentation.routes", "functions.console.routes")
