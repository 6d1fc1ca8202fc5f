// Reads requests as JSON from stdin, one array, and writes for each the decision of a simulation of IAM.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(process.argv[2] + "/"));
const { runSimulation } = require("@cloud-copilot/iam-simulate");

let text = "";
for await (const chunk of process.stdin) text += chunk;
const decisions = [];
for (const request of JSON.parse(text)) {
  const result = await runSimulation(
    { serviceControlPolicies: [], resourceControlPolicies: [], ...request },
    { simulationMode: "Strict" },
  );
  decisions.push(
    result.resultType === "error" ? `error: ${JSON.stringify(result.errors)}` : result.overallResult,
  );
}
process.stdout.write(JSON.stringify(decisions));
