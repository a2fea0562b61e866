// Brings the emulator what a Worker logged.
export default {
  tail(events, env) {
    return env.EMULATOR.fetch("http://emulator/", { method: "POST", body: JSON.stringify(events) });
  },
};
