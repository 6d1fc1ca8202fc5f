"""Uses a new deployment as a customer does: one check each of sign-in, files, training, chats, decisions and runs.

Everything happens in a space of its own, which the last check deletes with the user.
"""

import csv
import io
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import boto3
import httpx
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.client import ApiClient, ApiResponseError, Json
from infra.local.settings import LocalError

ROWS = 600
FILE, BENCHMARK_FILE, BASE_FILE, TARGET = "customers.csv", "benchmark.csv", "whole-base.csv", "bought"
ENDED = ("succeeded", "failed", "stopped")
SCAN_SECONDS = 300.0
LOG_SECONDS = 60.0
ATTEMPTS = 3


class SkippedError(Exception):
    """Error raised by a check that the deployment has nothing for. The message says what is missing."""


@dataclass(frozen=True)
class Outcome:
    """What became of a check."""

    check: str
    status: str
    seconds: float
    note: str

    @property
    def line(self) -> str:
        return f"{self.status:8} {self.check:32} {self.seconds:6.1f} s  {self.note}"


@dataclass
class Smoke:
    """The checks of one stage, in order. ``job_seconds`` limits each wait for a SageMaker job."""

    session: boto3.Session
    stage: str
    job_seconds: float = 1800.0
    # Replaces the address of the stage's outputs.
    url: str | None = None
    report: Callable[[str], None] = print
    outputs: dict[str, str] = field(default_factory=dict)
    email: str = field(default_factory=lambda: f"smoke-{secrets.token_hex(4)}@example.com")
    _api: ApiClient | None = None
    _made: Json = field(default_factory=dict)

    def run(self) -> list[Outcome]:
        """Runs the checks. A check that needs a failed one is not run; what was made is deleted in any case."""
        checks: list[tuple[str, Callable[[], str], str | None]] = [
            ("stacks are complete", self._stacks, None),
            ("a stranger is refused", self._stranger, "stacks are complete"),
            ("a user signs in", self._sign_in, "stacks are complete"),
            ("files are uploaded and scanned", self._files, "a user signs in"),
            ("a model trains on a CPU", self._train, "files are uploaded and scanned"),
            ("the model is measured", self._measure, "a model trains on a CPU"),
            ("a language model answers", self._chat, "a user signs in"),
            ("a decision uses the model", self._decide, "a model trains on a CPU"),
            ("a file is scored", self._score, "a model trains on a CPU"),
            ("a file gets its decisions", self._decide_all, "a decision uses the model"),
            ("what was made is deleted", self._clean_up, "stacks are complete"),
        ]
        outcomes: dict[str, Outcome] = {}
        for name, check, needed in checks:
            if needed and outcomes[needed].status != "passed":
                outcomes[name] = Outcome(name, "not run", 0.0, f"because '{needed}' did not pass")
            else:
                outcomes[name] = self._outcome(name, check)
            self.report(outcomes[name].line)
        return list(outcomes.values())

    def _outcome(self, name: str, check: Callable[[], str]) -> Outcome:
        started = time.monotonic()
        try:
            status, note = "passed", check()
        except SkippedError as reason:
            status, note = "skipped", str(reason)
        except (LocalError, ClientError, BotoCoreError, httpx.HTTPError, LookupError) as error:
            status, note = "FAILED", f"{type(error).__name__}: {error}"
        return Outcome(name, status, time.monotonic() - started, note)

    @property
    def api(self) -> ApiClient:
        if self._api is None:
            raise LookupError("nobody is signed in")
        return self._api

    def _stacks(self) -> str:
        pages = self.session.client("cloudformation").get_paginator("describe_stacks").paginate()
        stacks = [stack for page in pages for stack in page["Stacks"]]
        ours = [stack for stack in stacks if stack["StackName"].startswith(f"inference-{self.stage}-")]
        if broken := [f"{one['StackName']} is {one['StackStatus']}" for one in ours if "COMPLETE" not in
                      one["StackStatus"] or "ROLLBACK" in one["StackStatus"]]:  # fmt: skip
            raise LookupError("; ".join(broken))
        self.outputs = {
            output["OutputKey"]: output["OutputValue"] for stack in ours for output in stack.get("Outputs", [])
        }
        if "ApiUrl" not in self.outputs:
            raise LookupError(f"the stage {self.stage} is not deployed in {self.session.region_name}")
        self.url = (self.url or self.outputs["ApiUrl"]).rstrip("/")
        return self.url

    def _stranger(self) -> str:
        for token in (None, "not-a-token"):
            response = ApiClient(str(self.url), token).send("GET", "/spaces")
            if response.status_code != 401:
                raise LookupError(f"GET /spaces returned {response.status_code} to a stranger, and not 401")
        return "401 without a token and for a bad one"

    def _sign_in(self) -> str:
        if "UserPoolId" not in self.outputs:
            raise SkippedError("the stage accepts tokens of another issuer, and has no user pool")
        cognito: Any = self.session.client("cognito-idp")
        pool, password = self.outputs["UserPoolId"], f"Aa1!{secrets.token_urlsafe(16)}"
        verified: Any = [{"Name": "email", "Value": self.email}, {"Name": "email_verified", "Value": "true"}]
        cognito.admin_create_user(
            UserPoolId=pool,
            Username=self.email,
            UserAttributes=verified,
            MessageAction="SUPPRESS",
        )
        self._made["user"] = self.email
        cognito.admin_set_user_password(UserPoolId=pool, Username=self.email, Password=password, Permanent=True)
        tokens = cognito.admin_initiate_auth(
            UserPoolId=pool,
            ClientId=self.outputs["UserPoolClientId"],
            AuthFlow="ADMIN_USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": self.email, "PASSWORD": password},
        )["AuthenticationResult"]
        self._api = ApiClient(str(self.url), tokens["IdToken"])
        space = self.api.post("/spaces", {"name": "Smoke test", "description": "Made by infra.operations smoke"})
        self._made["space"] = self.api.space_id = str(space["id"])
        return f"{self.email}, space {space['id']}"

    def _files(self) -> str:
        connector = self.api.post("/connectors", {"name": "Smoke test", "type": "aws-s3"})["id"]
        self._made["connector"] = connector
        files = {FILE: customers(1), BENCHMARK_FILE: customers(2), BASE_FILE: customers(3, named=True)}
        self.api.upload(connector, files)
        # Nobody asks for the scan: S3's event starts it.
        page = self.api.wait(
            f"/connectors/{connector}/catalog?pageSize=10",
            lambda page: len([row for row in page["data"] if row["status"] != "pending"]) == len(files),
            seconds=SCAN_SECONDS,
        )
        if broken := [f"{row['file']}: {row['error']}" for row in page["data"] if row["status"] == "error"]:
            raise LookupError("; ".join(broken))
        return f"{sum(row['rows'] for row in page['data']):,} rows, {len(page['data'][0]['columns'])} columns"

    def _source(self, file: str) -> Json:
        return {"connector_id": self._made["connector"], "files": [file], "target": TARGET}

    def _train(self) -> str:
        model = self.api.post("/data-models", {"name": "Smoke test"})["id"]
        benchmark = self.api.post(
            "/benchmarks",
            {
                "name": "Smoke test",
                "description": "Rows that no model is trained on",
                "task": "binary_classification",
                "metrics": ["roc_auc"],
                "connectors": [self._source(BENCHMARK_FILE)],
            },
        )["id"]
        training = self.api.post(
            "/trainings",
            {
                "name": "Smoke test",
                "architecture": "lightgbm",
                "configuration": {"n_estimators": 50},
                "connectors": [self._source(FILE)],
                "data_model_id": model,
                "benchmark_ids": [benchmark],
                "gpu_count": 0,
            },
        )["id"]
        self._made["benchmark"] = benchmark
        path = f"/trainings/{training}"
        ended = self.api.wait(path, lambda row: row["status"] in ENDED, seconds=self.job_seconds, every=2.0)
        if ended["status"] != "succeeded":
            raise LookupError(f"training {training} is {ended['status']}: {ended.get('error')}")
        self._made["checkpoint"] = ended["checkpoints"][0]["id"]
        log = self.api.wait(f"{path}/logs", lambda page: page["data"], seconds=LOG_SECONDS)
        spent = (ended["cost"] or {}).get("so_far") or 0
        return f"training {training}, {len(log['data'])} lines of log, {spent:.2f} dollars"

    def _measure(self) -> str:
        def result(page: Any) -> Json | None:
            mine = (row for row in page["data"] if row["benchmark_id"] == self._made["benchmark"])
            return next((row["result"] for row in mine if row["result"]["status"] in ENDED), None)

        page = self.api.wait("/evaluations?limit=10", lambda page: result(page) is not None, seconds=self.job_seconds)
        found = result(page) or {}
        if found["status"] != "succeeded":
            raise LookupError(f"the evaluation is {found['status']}: {found.get('error')}")
        [board] = self.api.get("/leaderboards", benchmarks=self._made["benchmark"])["data"]
        area = board["benchmarks"][self._made["benchmark"]]["roc_auc"]
        if area < 0.7:
            raise LookupError(f"the model's ROC AUC is {area:.3f}; these rows allow more than 0.7")
        return f"ROC AUC {area:.3f}"

    def _decide(self) -> str:
        group = self.api.post("/action-groups", {"name": "Smoke test", "description": "Offers"})["id"]
        action = self.api.post(
            "/actions",
            {
                "name": "Smoke test",
                "description": "An offer",
                "type": "offer",
                "group": group,
                "model_id": self._made["checkpoint"],
                "priority": "high",
                "channel": "email",
                "channel_template": "Dear {{client.name}},\n{{argument}}\nAsk us about: {{action.name}}.",
                "status": "active",
            },
        )
        row = next(csv.DictReader(io.StringIO(customers(3).decode())))
        facts = {name: value for name, value in row.items() if name != TARGET}
        insight = self._ask(
            "/insights", {"client": {"name": "Ada", **facts}, "actions": [action["id"]], "max_tokens": 16}
        )
        self._made["action"] = action["id"]
        [candidate] = insight["candidates"]
        if candidate["propensity"] is None:
            raise LookupError(f"the decision has no propensity: {candidate['reason']}")
        return f"propensity {candidate['propensity']:.3f}"

    def _score(self) -> str:
        return self._run("/predictions", {"checkpoint_id": self._made["checkpoint"]})

    def _decide_all(self) -> str:
        return self._run("/decision-runs", {"actions": [self._made["action"]]})

    def _run(self, path: str, body: Json) -> str:
        """Starts a run over the whole base, and waits for its output."""
        connector = self._made["connector"]
        body = {"connector_id": connector, "files": [BASE_FILE], "output": {"connector_id": connector}, **body}
        one = f"{path}/{self.api.post(path, body)['id']}"
        ended = self.api.wait(one, lambda run: run["status"] in ENDED, seconds=self.job_seconds, every=2.0)
        if ended["status"] != "succeeded":
            raise LookupError(f"{one} is {ended['status']}: {ended.get('error')}")
        written = ended["progress"]["rows_written"]
        if written != ROWS:
            raise LookupError(f"{one} wrote {written} of {ROWS} rows")
        files = self.api.get(f"{one}/files")["data"]
        return f"{written} rows in {len(files)} files, by {ended['engine']}"

    def _chat(self) -> str:
        try:
            models = self.api.get("/models")["data"]
        except ApiResponseError as error:
            if error.status != 404:
                raise
            raise SkippedError("no language models: deploy with -c default_cluster_url=… (docs/operating.md)") from None
        completion = self._ask("/chats", {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8})
        text = str(completion["choices"][0]["message"]["content"])
        return f"{models[0]['id']}: {' '.join(text.split())[:40]}"

    def _ask(self, path: str, question: Json) -> Json:
        """Asks again where the stage or its language model was not ready: the first question may have to wake both."""
        for _ in range(ATTEMPTS - 1):
            try:
                return dict(self.api.post(path, question))
            except ApiResponseError as error:
                if error.status not in (502, 503, 504):
                    raise
        return dict(self.api.post(path, question))

    def _clean_up(self) -> str:
        deleted = []
        if space := self._made.get("space"):
            self.api.delete(f"/spaces/{space}")
            deleted.append("the space (removed for good after 30 days)")
        if user := self._made.get("user"):
            self.session.client("cognito-idp").admin_delete_user(UserPoolId=self.outputs["UserPoolId"], Username=user)
            deleted.append("the user")
        return " and ".join(deleted) or "nothing was made"


def customers(seed: int, *, named: bool = False) -> bytes:
    """Returns rows of customers, of whom those with a high income and a short distance buy more often.

    Only named ones have an id, and no answer.
    """
    numbers = random.Random(seed)  # noqa: S311 - these rows are no secret
    text = io.StringIO()
    rows = csv.writer(text)
    columns = ["age", "income", "distance", "city"]
    rows.writerow(["customer_id", *columns] if named else [*columns, TARGET])
    for number in range(ROWS):
        income, distance = numbers.gauss(50, 15), numbers.uniform(0, 40)
        buys = income / 15 - distance / 10 + numbers.gauss(0, 0.7) > 1.5
        city = numbers.choice(["Bonn", "Lyon", "Porto"])
        row = [numbers.randint(18, 90), round(income, 1), round(distance, 1), city]
        rows.writerow([f"c{number}", *row] if named else [*row, "yes" if buys else "no"])
    return text.getvalue().encode()
