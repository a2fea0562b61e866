// What the binding of a dispatch namespace offers, by requests to the emulator.
export default function dispatchNamespace(env) {
  return {
    get(name, _args, options) {
      const target = JSON.stringify({ name, outbound: options?.outbound ?? {} });
      return {
        async fetch(input, init) {
          const request = new Request(input, init);
          const headers = new Headers(request.headers);
          headers.set("x-emulator-dispatch", encodeURIComponent(target));
          const answer = await env.fetcher.fetch(new Request(request, { headers, redirect: "manual" }));
          if (answer.headers.has("x-emulator-missing")) throw new Error("Worker not found.");
          return answer;
        },
      };
    },
  };
}
