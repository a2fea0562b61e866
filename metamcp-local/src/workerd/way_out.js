// The way out of a server in a container, which has no network: the gate decides, outside, and its refusal is an error
// here again.
export default {
  async fetch(request, env) {
    const answer = await env.GATE.fetch(request, { redirect: "manual" });
    if (!answer.headers.has("x-metamcp-egress-refused")) return answer;
    throw new Error(await answer.text());
  },
};
