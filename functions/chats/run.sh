#!/bin/sh
# Started in Lambda by the web adapter's wrapper, which has replaced Python's runtime and its search path.
export PYTHONPATH="$LAMBDA_TASK_ROOT:/opt/python"
exec python -m uvicorn functions.chats.handler:app --host 127.0.0.1 --port "$PORT" \
    --no-access-log --no-server-header --log-level warning
