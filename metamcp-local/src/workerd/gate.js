// The gate where it is a process of its own, outside of a server's container: what it refuses, it says in an answer,
// since an error does not get through a socket.
import gate from "egress.js";

const REFUSED = "x-metamcp-egress-refused";

const refusal = (text) => new Response(text, { status: 502, headers: { [REFUSED]: "1" } });

export default {
  async fetch(request, env) {
    try {
      const answer = await gate.fetch(request, env);
      return answer.headers.has(REFUSED) ? refusal(`the answer has the header ${REFUSED}`) : answer;
    } catch (error) {
      return refusal(String(error?.message ?? error));
    }
  },
};
