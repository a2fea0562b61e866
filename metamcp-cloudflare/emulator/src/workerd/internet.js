// The way out of a process: the public internet, and the hosts that a test leads to an address of this machine.
export default {
  fetch(request, env) {
    const override = env[env.OVERRIDES[new URL(request.url).hostname.replace(/\.$/, "")]];
    return (override ?? env.NETWORK).fetch(request, { redirect: "manual" });
  },
};
