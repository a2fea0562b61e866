// Serves every server of the dispatch namespace at /<server>/mcp.

const NAME = /^[a-z](?:[a-z0-9-]{0,51}[a-z0-9])?$/;

function missing(name) {
  return Response.json({ error: `there is no server ${JSON.stringify(name)} here` }, { status: 404 });
}

export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    const [, name, ...rest] = url.pathname.split("/");
    if (!NAME.test(name)) return missing(name);
    url.pathname = rest.join("/");
    const server = env.DISPATCHER.get(name, {}, { outbound: { server: name } });
    try {
      return await server.fetch(new Request(url, request));
    } catch (error) {
      if (String(error?.message).startsWith("Worker not found")) return missing(name);
      throw error;
    }
  },
};
