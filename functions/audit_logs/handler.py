from shared.http.adapter import load

app, handler = load("functions.audit_logs.routes")
