// The container has no network. npm's requests go to this port of its loopback, and from here through a mounted
// socket to the proxy outside, which decides about them.
import { connect, createServer } from "node:net";

const server = createServer((client) => {
  const proxy = connect("/run/metamcp/proxy.sock");
  const end = () => {
    client.destroy();
    proxy.destroy();
  };
  client.on("error", end).on("close", end);
  proxy.on("error", end).on("close", end);
  client.pipe(proxy).pipe(client);
});
server.listen(4873, "127.0.0.1");
