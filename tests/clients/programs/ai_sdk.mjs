// Calls the API with the AI SDK.
import assert from "node:assert/strict";
import { createOpenAI } from "@ai-sdk/openai";
import { embedMany, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const openai = createOpenAI({ baseURL: process.env.API_URL, apiKey: process.env.API_KEY });
const chat = "gpt-4o-mini";
const hello = "Hello there.";
const prompt = "Who works where?";
const person = z.object({ name: z.string(), addresses: z.array(z.object({ city: z.string() })).min(1) });
const team = z.object({ lead: person, members: z.array(person).min(1) });

for (const model of [openai(chat), openai.chat(chat), openai.responses(chat)]) {
  const { text, usage, finishReason, warnings } = await generateText({ model, prompt, system: "Be brief.", maxRetries: 0 });
  assert.equal(text, hello);
  assert.equal(finishReason, "stop");
  assert.ok(usage.totalTokens > 0);
  assert.deepEqual(warnings ?? [], []);

  const errors = [];
  const streamed = streamText({ model, prompt, maxRetries: 0, onError: ({ error }) => errors.push(error) });
  let whole = "";
  for await (const piece of streamed.textStream) whole += piece;
  assert.deepEqual(errors, []);
  assert.equal(whole, hello);

  const { object } = await generateObject({ model, prompt, schema: team, maxRetries: 0 });
  assert.ok(object.lead.addresses[0].city);

  const added = [];
  const tools = {
    addTeam: tool({
      description: "Adds a team.",
      inputSchema: team,
      execute: async (given) => (added.push(given), "Added."),
    }),
  };
  const after = await generateText({ model, prompt, tools, stopWhen: stepCountIs(3), maxRetries: 0 });
  assert.equal(after.text, hello);
  assert.ok(added[0].members[0].addresses[0].city);

  const calls = streamText({ model, prompt, tools, stopWhen: stepCountIs(3), maxRetries: 0 });
  assert.equal(await calls.text, hello);
}

const completion = await generateText({ model: openai.completion("gpt-3.5-turbo-instruct"), prompt: "Once", maxRetries: 0 });
assert.equal(completion.text, hello);

const { embeddings } = await embedMany({ model: openai.embedding("text-embedding-3-small"), values: ["abba", "c"], maxRetries: 0 });
assert.deepEqual(embeddings.map((each) => each.slice(0, 3)), [[2, 2, 0], [0, 0, 1]]);
console.log("ok");
