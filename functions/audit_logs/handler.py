from shared.handlers import load

app, handler = load("functions.audit_logs.routes")
