// The official OpenAI client for Node: it asks for base64 and decodes whatever comes as such.
import assert from "node:assert/strict";
import OpenAI from "openai";

const model = process.env.TENON_MODEL;
const texts = JSON.parse(process.env.TENON_TEXTS);
const client = new OpenAI({ baseURL: process.env.TENON_URL, apiKey: "unused", maxRetries: 0 });

const answer = await client.embeddings.create({ model, input: texts });
assert.equal(answer.model, model);
assert.equal(answer.usage.prompt_tokens, answer.usage.total_tokens);
assert.deepEqual(answer.data.map((item) => item.index), texts.map((_, index) => index));

const floats = await client.embeddings.create({ model, input: texts, encoding_format: "float" });
answer.data.forEach((item, index) => {
  assert.equal(item.embedding.length, 384);
  const other = floats.data[index].embedding;
  item.embedding.forEach((value, i) => assert.ok(Math.abs(value - other[i]) < 1e-7));
});

await assert.rejects(client.embeddings.create({ model, input: "" }), (error) => {
  assert.ok(error instanceof OpenAI.BadRequestError);
  assert.equal(error.type, "invalid_request_error");
  assert.ok(error.requestID);
  return true;
});
await assert.rejects(client.embeddings.create({ model: "nosuch", input: "a" }), OpenAI.NotFoundError);

const models = await client.models.list();
assert.equal(models.data[0].id, model);
console.log(JSON.stringify(answer.data.map((item) => Array.from(item.embedding))));
