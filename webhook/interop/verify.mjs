// Verifies webhook signatures with libraries that share no code with Posthorn.
//
// In, one JSON object a line:
//   {"secret":"whsec_…","id":"…","timestamp":"…","signature":"…","body_base64":"…"}
// Out, one line for each:
//   {"ok":true,"standardwebhooks":true,"svix":true}
// where a library that refuses has its reason in place of true.
//
// Both libraries read the body as UTF-8 and the real clock.
import { createInterface } from "node:readline";
import { Webhook as StandardWebhook } from "standardwebhooks";
import { Webhook as SvixWebhook } from "svix";

function attempt(Library, { secret, id, timestamp, signature, body_base64 }) {
  try {
    new Library(secret).verify(Buffer.from(body_base64, "base64"), {
      "webhook-id": id,
      "webhook-timestamp": timestamp,
      "webhook-signature": signature,
    });
    return true;
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  if (line === "") continue;
  const message = JSON.parse(line);
  const standardwebhooks = attempt(StandardWebhook, message);
  const svix = attempt(SvixWebhook, message);
  console.log(JSON.stringify({ ok: standardwebhooks === true && svix === true, standardwebhooks, svix }));
}
