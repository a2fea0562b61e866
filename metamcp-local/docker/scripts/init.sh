# Process 1 of every container: keeps the forwarder running, and reaps what commands leave behind.
while :; do
  node /opt/metamcp/forward.mjs
  sleep 1
done
