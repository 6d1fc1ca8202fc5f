"""Code that sends the example of an operation: with curl, with the Python client, and with TypeScript's ``fetch``."""

import json
import re
import shlex
from collections.abc import Iterator
from pprint import pformat
from typing import Any
from urllib.parse import quote, urlencode

WIDTH = 76


def samples(method: str, path: str, operation: dict[str, Any], example: dict[str, Any]) -> list[dict[str, str]]:
    """Returns what ``x-codeSamples`` of an operation holds."""
    address = path
    for name, value in example.get("path", {}).items():
        address = address.replace(f"{{{name}}}", quote(value, safe=""))
    if example.get("query"):
        address += f"?{urlencode(example['query'], doseq=True)}"
    with_token = "security" in operation
    return [
        {"lang": "Shell", "label": "curl", "source": _curl(method, address, example, with_token=with_token)},
        {"lang": "Python", "label": "Python", "source": _python(operation, example)},
        {
            "lang": "TypeScript",
            "label": "TypeScript",
            "source": _typescript(method, address, example, with_token=with_token, reads=_reader(operation)),
        },
    ]


def _curl(method: str, address: str, example: dict[str, Any], *, with_token: bool) -> str:
    parts = [f'curl "$API{address}"' if method in ("GET", "POST") else f'curl -X {method} "$API{address}"']
    if with_token:
        parts.append('-H "Authorization: Bearer $TOKEN"')
    if "body" in example:
        parts.append('-H "Content-Type: application/json"')
        parts.append(f"-d {shlex.quote(json.dumps(example['body'], indent=2, ensure_ascii=False))}")
    elif "files" in example:
        parts += [f"-F {each['field']}=@{each['name']}" for each in example["files"]]
    elif method == "POST":
        parts.append("-X POST")
    return " \\\n  ".join(parts)


def _python(operation: dict[str, Any], example: dict[str, Any]) -> str:
    module, package = operation["operationId"], operation["tags"][0].replace("-", "_")
    arguments = [repr(value) for value in example.get("path", {}).values()]
    arguments.append("client=client")
    body = _python_body(operation, example)
    arguments += ["body=body"] if body else []
    more_imports, statements = body or ([], [])
    for name, value in example.get("query", {}).items():
        text, needed = _python_value(operation, name, value)
        arguments.append(f"{identifier(name)}={text}")
        more_imports = [*more_imports, *needed]
    # A call whose response is not documented as JSON has no parsed result.
    function, result = (f"{module}.sync", "") if _gives_json(operation) else (f"{module}.sync_detailed", ".content")
    call = f"{function}({', '.join(arguments)}){result}"
    if len(call) > WIDTH:
        call = f"{function}(\n" + "".join(f"    {each},\n" for each in arguments) + f"){result}"
    imports = ["from inference_client import connect", f"from inference_client.api.{package} import {module}"]
    listed = sorted(dict.fromkeys((*imports, *more_imports)), key=lambda line: "inference_client" in line)
    return "\n".join([*listed, "", "client = connect()", *statements, f"print({call})"])


def _python_value(operation: dict[str, Any], name: str, value: Any) -> tuple[str, list[str]]:
    """Returns an argument of a call as the client types it, and what it imports."""
    (schema,) = (each["schema"] for each in operation["parameters"] if each["name"] == name)
    choices = [schema, *schema.get("anyOf", ())]
    if any(each.get("format") == "date-time" for each in choices):
        return f"datetime.fromisoformat({value!r})", ["from datetime import datetime"]
    for each in choices:
        if "$ref" in each:
            return f"{class_name(each)}({value!r})", [f"from inference_client.models import {class_name(each)}"]
    return repr(value), []


def _gives_json(operation: dict[str, Any]) -> bool:
    found = [response for status, response in operation["responses"].items() if status.startswith("2")]
    return any(response.get("content", {}).get("application/json", {}).get("schema") for response in found)


def _python_body(operation: dict[str, Any], example: dict[str, Any]) -> tuple[list[str], list[str]] | None:
    """Returns the imports and the lines that make the body, as the client's generator names its classes."""
    content = operation.get("requestBody", {}).get("content", {})
    if "body" in example:
        name = class_name(content["application/json"]["schema"])
        text = pformat(example["body"], sort_dicts=False, width=WIDTH)
        return [f"from inference_client.models import {name}"], [f"body = {name}.from_dict({_indented(text)})"]
    if "files" in example:
        name = class_name(content["multipart/form-data"]["schema"])
        return (
            [
                "from pathlib import Path",
                f"from inference_client.models import {name}",
                "from inference_client.types import File",
            ],
            [
                *(
                    f"file = File(payload=Path({each['name']!r}).open('rb'), file_name={each['name']!r})"
                    for each in example["files"]
                ),
                f"body = {name}({example['files'][0]['field']}=[file])",
            ],
        )
    return None


def _indented(text: str) -> str:
    return text if "\n" not in text else "\n" + "\n".join(f"    {line}" for line in text.splitlines()) + "\n"


def class_name(schema: dict[str, Any]) -> str:
    """Returns the name of the client's class for a schema that is a reference."""
    name = str(schema["$ref"]).rpartition("/")[2]
    return "".join(part[0].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name) if part)


def identifier(name: str) -> str:
    """Returns the name of the client's argument for a parameter."""
    return "_".join(_words(name))


def _words(name: str) -> Iterator[str]:
    for part in re.split(r"[^A-Za-z0-9]+", name):
        yield from (word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", part))


def _reader(operation: dict[str, Any]) -> str:
    return "json" if _gives_json(operation) else "text"


def _typescript(method: str, address: str, example: dict[str, Any], *, with_token: bool, reads: str) -> str:
    lines, headers, options = [], [], []
    if method != "GET":
        options.append(f'  method: "{method}",')
    if with_token:
        headers.append("Authorization: `Bearer ${process.env.TOKEN}`")
    if "body" in example:
        headers.append('"Content-Type": "application/json"')
        body = json.dumps(example["body"], indent=2, ensure_ascii=False).replace("\n", "\n  ")
        options.append(f"  body: JSON.stringify({body}),")
    elif "files" in example:
        lines += ['import { openAsBlob } from "node:fs";', "", "const form = new FormData();"]
        lines += [
            f"form.append('{each['field']}', await openAsBlob('{each['name']}'), '{each['name']}');"
            for each in example["files"]
        ]
        options.append("  body: form,")
    if headers:
        options.insert(1 if method != "GET" else 0, f"  headers: {{ {', '.join(headers)} }},")
    start = f"const response = await fetch(`${{process.env.API}}{address}`"
    lines.append(f"{start}, {{\n" + "\n".join(options) + "\n});" if options else f"{start});")
    lines.append(f"console.log(await response.{reads}());")
    return "\n".join(lines)
